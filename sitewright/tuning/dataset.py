"""The check of a data set before it is trained on: every row is read, and every fault has its line and its mend."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError

from sitewright.tuning.dataset_file import lines, open_for_reading, other_kind, sha256_of
from sitewright.tuning.dataset_rows import Messages, messages_of
from sitewright.tuning.findings import Fault, Finding, Findings
from sitewright.tuning.leakage import Duplicates, EvaluationPrompts, normalised

CHARACTERS_PER_TOKEN = 4
"""Of English text, roughly; other languages and code have fewer."""

TRAIN, EVALUATION = "train.jsonl", "evaluation.jsonl"
"""The files as they are called in the directory of a run."""

CountTokens = Callable[[Messages], int]


@dataclass
class Part:
    """One file of a data set. rows: lines that are not blank; usable: rows without an error.

    longest: tokens of the longest usable row, estimated where nothing counts them.
    """

    path: Path
    sha256: str
    rows: int = 0
    usable: int = 0
    longest: int = 0


@dataclass(frozen=True)
class Report:
    """What a check found. `findings` are the first ten of each kind; `errors` and `warnings` count all."""

    train: Part
    evaluation: Part | None
    digest: str
    all_findings: Findings

    @property
    def findings(self) -> list[Finding]:
        return self.all_findings.kept

    @property
    def errors(self) -> int:
        return self.all_findings.total("error")

    @property
    def warnings(self) -> int:
        return self.all_findings.total("warning")

    @property
    def ok(self) -> bool:
        """Whether it may be trained on: no errors, warnings or not."""
        return self.errors == 0

    def lines(self) -> list[str]:
        """The findings as text, in the order of the files, and how many of a kind are not shown."""
        return self.all_findings.lines()


def check(train: Path, evaluation: Path | None, max_length: int, count_tokens: CountTokens | None) -> Report:
    """What is wrong with a data set; reads both files from end to end, one row at a time.

    max_length:   tokens of the longest row allowed, as in the recipe; trl would cut off the end of a longer one.
    count_tokens: tokens of a row's messages in the model's chat template; None estimates them, and warns only.
    Returns:      also the digest of the data set: `sha256sum train.jsonl evaluation.jsonl | sha256sum`.
    Raises:       SitewrightError where a file is not there or cannot be read.
    """
    measure = _Measure(max_length, count_tokens)
    findings = Findings()
    asked = EvaluationPrompts(evaluation.name if evaluation else "")
    held_out = None
    # First the smaller file, so that only its prompts are kept.
    if evaluation:
        held_out = Part(evaluation, "")
        for line, normal in _usable(held_out, measure, findings):
            asked.add(normal, line)
    trained = Part(train, "")
    for line, normal in _usable(trained, measure, findings):
        if asked:
            findings.add(train, line, asked.check(normal))
    return Report(trained, held_out, _digest(trained, held_out), findings)


def _usable(part: Part, measure: "_Measure", findings: Findings) -> Iterator[tuple[int, Messages]]:
    """Line and normalised messages of each row without an error; fills in part and findings on the way."""
    seen = Duplicates()
    with open_for_reading(part.path) as file:
        part.sha256 = sha256_of(file)
        if other := other_kind(file):
            findings.add(part.path, None, [other])
            return
        for line in lines(file, part.path, findings):
            part.rows += 1
            messages, faults = messages_of(line)
            if messages:
                tokens, more = measure.row(messages)
                faults += more
                if not any(fault.severity == "error" for fault in faults):
                    part.usable += 1
                    part.longest = max(part.longest, tokens)
                    normal = normalised(messages)
                    faults += seen.check(messages, normal, line.number)
                    yield line.number, normal
            findings.add(part.path, line.number, faults)
    if not part.rows:
        findings.add(
            part.path, None, [Fault("no-rows", "the file has no rows", "one row at least is wanted")]
        )


@dataclass(frozen=True)
class _Measure:
    max_length: int
    count_tokens: CountTokens | None

    def row(self, messages: Messages) -> tuple[int, list[Fault]]:
        """Tokens of a row, and what is wrong with their number."""
        if self.count_tokens is None:
            return self._estimate(messages)
        try:
            tokens = self.count_tokens(messages)
        except TemplateError as error:
            what = f"the model's chat template refuses the row: {error}"
            return 0, [Fault("template", what, "change the row, or take another model")]
        if tokens <= self.max_length:
            return tokens, []
        what = f"{tokens:,} tokens, but max_length is {self.max_length:,}: its end would be cut off"
        return tokens, [
            Fault("too-long", what, "shorten or split the row, or raise max_length in the recipe")
        ]

    def _estimate(self, messages: Messages) -> tuple[int, list[Fault]]:
        characters = sum(len(message["content"]) for message in messages)
        tokens = -(-characters // CHARACTERS_PER_TOKEN)
        if tokens <= self.max_length:
            return tokens, []
        what = f"about {tokens:,} tokens ({characters:,} characters), but max_length is {self.max_length:,}"
        fix = "shorten or split the row; of one that is too long the end would be cut off"
        return tokens, [Fault("may-be-too-long", what, fix, "warning")]


def _digest(train: Part, evaluation: Part | None) -> str:
    listed = f"{train.sha256}  {TRAIN}\n" + (f"{evaluation.sha256}  {EVALUATION}\n" if evaluation else "")
    return hashlib.sha256(listed.encode()).hexdigest()
