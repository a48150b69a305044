"""What the documentation names is there: files, commands with their options, and runbooks in their form."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from sitewright.cli import main
from tests.runbook import DIRECTORY, FENCE, INLINE, pattern, steps, worked_if

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
RUNBOOKS = sorted(DIRECTORY.glob("*.md"))
DIRECTORIES = "docs|environments|images|lab|modules|playbooks|sitewright|stacks|tests|tools"
PLACEHOLDER = re.compile(r"<[^>]*>|…")

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"(?m)^#+ (.*)$")
# Up to where a shell, or the sentence around it, ends the command.
COMMAND = re.compile(r"(?:^|[\s(\"])(?:\.venv/bin/)?sitewright((?: [^\s;|&)\"`,…]+)+)")
PATH = re.compile(rf"(?<![\w/.~-])((?:{DIRECTORIES})/[\w./*<>…-]*)")


@cache
def text_of(document: Path) -> str:
    return document.read_text()


def commands(text: str) -> Iterator[tuple[str, bool]]:
    """Calls of `sitewright`, without that word; and whether it is one to type, not a name in a sentence."""
    for line in (line for _, _, block in FENCE.findall(text) for line in block.splitlines()):
        yield from ((found, True) for found in COMMAND.findall(line))
    for code in INLINE.findall(FENCE.sub("", text)):
        yield from ((found, False) for found in COMMAND.findall(code))


def problem_of(words: list[str], to_type: bool) -> str:
    """Why the command line does not take these words; empty where it does. Nothing is run."""
    command: click.Command = main
    context = click.Context(main, info_name="sitewright")
    try:
        while isinstance(command, click.Group):
            _, words, _ = command.make_parser(context).parse_args(list(words))
            if not words:
                return ""  # a group on its own prints its help
            name, found, words = command.resolve_command(context, words)
            assert found is not None
            command, context = found, click.Context(found, info_name=name, parent=context)
        if words or to_type:
            command.make_context(context.info_name, list(words), parent=context.parent)
    except click.exceptions.Exit:
        return ""  # --help
    except click.UsageError as error:
        return error.format_message()
    return ""


def paths(text: str) -> Iterator[str]:
    """What looks like a path of the repository: anything in code that begins with one of its directories, and in
    sentences what ends like a file."""
    prose = FENCE.sub("", text)
    for code in INLINE.findall(prose):
        yield from (match for match in PATH.findall(code) if code.startswith(match))
    for _, _, block in FENCE.findall(text):
        yield from (match for match in PATH.findall(block) if re.search(r"\.(py|ya?ml|md|j2)$", match))
    for match in PATH.findall(LINK.sub("", INLINE.sub("", prose))):
        path = match.rstrip(".")
        yield from [path] if re.search(r"\.(py|ya?ml|md)$", path) else []


def exists(path: str) -> bool:
    pattern = PLACEHOLDER.sub("*", path).rstrip("./")
    return bool(pattern) and any(True for _ in REPOSITORY.glob(pattern))


def anchors(document: Path) -> set[str]:
    """Anchors of the headings, as forges make them."""
    headings = HEADING.findall(FENCE.sub("", text_of(document)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


by_name = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda document: str(document.relative_to(REPOSITORY))
)
by_runbook = pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda runbook: runbook.stem)


@by_name
def test_every_relative_link_leads_somewhere(document):
    broken = []
    for link in LINK.findall(FENCE.sub("", text_of(document))):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@by_name
def test_every_command_exists_with_its_options(document):
    found = {
        f"sitewright{words}": problem_of(shlex.split(words), to_type)
        for words, to_type in commands(text_of(document))
    }
    assert {command: problem for command, problem in found.items() if problem} == {}


@by_name
def test_every_path_of_the_repository_exists(document):
    assert [path for path in paths(text_of(document)) if not exists(path)] == []


@by_name
def test_every_make_target_exists(document):
    targets = set(re.findall(r"(?m)^([a-z-]+):", (REPOSITORY / "Makefile").read_text()))
    text = text_of(document)
    code = [*INLINE.findall(FENCE.sub("", text)), *(block for _, _, block in FENCE.findall(text))]
    named = {found for part in code for found in re.findall(r"(?m)^(?: *\$ )?make ([a-z-]+)", part)}
    assert named <= targets


def test_the_index_names_every_document():
    index = text_of(REPOSITORY / "docs/README.md")
    documents = {str(document.relative_to(REPOSITORY / "docs")) for document in DOCUMENTS[1:]} - {"README.md"}
    assert documents - set(LINK.findall(index)) == set()


@by_runbook
def test_a_runbook_has_its_form(runbook):
    text = text_of(runbook)
    parts = [text.find(part) for part in ("# ", "\nSeen: ", "Harm: ", "\n1. ", "\nWorked if: ", "Undo: ")]
    assert parts[0] == 0 and -1 not in parts
    assert parts == sorted(parts)
    numbers = [step.number for step in steps(text)]
    assert numbers == list(range(1, len(numbers) + 1))
    mentioned = {int(number) for number in re.findall(r"\b[Ss]teps? (\d+)", text)}
    assert mentioned <= set(numbers)


@by_runbook
def test_a_runbook_says_which_test_follows_it(runbook):
    said = text_of(runbook).rpartition("Executed by: ")[2]
    assert [path for path in paths(said) if path.startswith("tests/lab/") and exists(path)]


@by_runbook
def test_a_runbook_says_which_command_shows_that_it_worked(runbook):
    command, _ = worked_if(text_of(runbook))
    assert command.split()[0] in ("kubectl", "pulumi", "sitewright")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("lab status --json", ""),
        ("lab -e lab up --deploy", ""),
        ("--debug config check lab", ""),
        ("nodes power lab x1000c0s0b0n0 status", ""),
        ("lab ssh svc-cp journalctl -u kubelet", ""),
        ("runs", ""),
        ("lab start", "No such command 'start'."),
        ("lab status --jsn", "No such option"),
        ("nodes power lab x1000c0s0b0n0 maybe", "'maybe' is not one of"),
        ("nodes power lab x1000c0s0b0n0", "Missing argument"),
        ("lba status", "No such command 'lba'."),
    ],
)
def test_the_check_of_commands_tells_right_from_wrong(words, problem):
    found = problem_of(words.split(), to_type=True)
    assert problem in found
    assert bool(problem) == bool(found)


def test_commands_are_found_in_blocks_and_in_inline_code_and_nowhere_else():
    text = (
        "sitewright brings up\n`sitewright lab up`, and `sitewright runs show X; y`\n"
        '```console\n$ eval "$(sitewright lab env)"\n```\n'
    )
    assert list(commands(text)) == [(" lab env", True), (" lab up", False), (" runs show X", False)]


def test_paths_are_told_from_other_words():
    text = "`lab/no.py` `lab/` stacks/none.py. `/var/lib/lab/x` `environments/<env>.yaml` [x](docs/y.md)\n"
    found = list(paths(text))
    assert found == ["lab/no.py", "lab/", "environments/<env>.yaml", "stacks/none.py"]
    assert [path for path in found if not exists(path)] == ["lab/no.py", "stacks/none.py"]


def test_a_step_without_a_command_is_refused():
    with pytest.raises(ValueError, match="step 1 has 0 commands"):
        steps("1. Look.\n\nWorked if: you saw.\n")


def test_a_sentence_that_names_no_command_does_not_show_that_it_worked():
    with pytest.raises(ValueError, match="no command shows that it worked: All is well"):
        worked_if("Worked if: All is well. Undo: `pulumi destroy`.\n")


@pytest.mark.parametrize(
    ("words", "output", "found"),
    [
        ("Ready", "x1000c0s0b0n0   Ready    <none>", True),
        ("Ready", "x1000c0s0b0n0   NotReady <none>", False),
        ("NAME STATUS\ncp …  Running", "NAME     STATUS\ncp       3m  Running", True),
        ("… join-gpu … lab", "20261125T082536Z-join-gpu          lab", True),
        ("… failed=0 …", "localhost : ok=1 failed=0 skipped=0", True),
        ("has sha256 …, but", "has sha512 ab, but", False),
    ],
)
def test_what_a_runbook_quotes_is_found_by_whole_words(words, output, found):
    assert bool(pattern(words).search(output)) == found
