"""Runbooks as tests read them: steps, what each prints when all is well, and how one knows that it worked."""

import re
from pathlib import Path
from typing import NamedTuple

DIRECTORY = Path(__file__).parents[1] / "docs/runbooks"

FENCE = re.compile(r"(?ms)^( *)```(\w*)\n(.*?)^ *```$")
INLINE = re.compile(r"`([^`\n]+)`")
STEP = re.compile(r"(?ms)^(\d+)\. (.*?)(?=^\d+\. |^Worked if:)")
WORKED = re.compile(r"(?ms)^Worked if: (.*?)(?=\bUndo: )")


class Step(NamedTuple):
    number: int
    command: str
    prints: str  # what the block says is printed; `…` stands for anything


def steps(runbook: str) -> list[Step]:
    """The steps of a runbook, for a test that follows it. Raises: ValueError where one is not one command."""
    found = []
    for number, text in STEP.findall(runbook):
        lines = console(text)
        commands = typed(lines)
        if len(commands) != 1:
            raise ValueError(f"step {number} has {len(commands)} commands")
        found.append(Step(int(number), commands[0], "\n".join(line for line in lines if line[:2] != "$ ")))
    return found


def console(text: str) -> list[str]:
    """The lines of all `console` blocks, without the indentation of the block."""
    blocks = [(indent, block) for indent, language, block in FENCE.findall(text) if language == "console"]
    return [line.removeprefix(indent) for indent, block in blocks for line in block.splitlines()]


def typed(lines: list[str]) -> list[str]:
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def worked_if(runbook: str) -> tuple[str, str]:
    """The command that shows that it worked, and what it prints then; "" where its exit status says all.
    Raises: ValueError where the runbook names none."""
    [sentence] = WORKED.findall(runbook)
    found = re.search(r"`([^`\n]+)`(?: prints `([^`\n]+)`)?", sentence)
    if not found:
        raise ValueError(f"no command shows that it worked: {sentence}")
    return found[1], found[2] or ""


def pattern(words: str) -> re.Pattern[str]:
    """Finds in an output what a runbook quotes of it: whole words, as many blanks as there are, and anything
    for `…`."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in words.split("…")]
    return re.compile(rf"(?<!\w){'.*?'.join(parts)}(?!\w)", re.DOTALL)
