"""What the check of a data set found: one `Finding` per fault, the first ten of a kind, and how many more."""

import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from sitewright.site.files import display

SHOWN = 10
"""Findings of one kind and file that are kept; the others are only counted."""

Severity = Literal["error", "warning"]


class Fault(NamedTuple):
    """What is wrong with a row, before it is known where the row stands.

    kind: a word that findings of the same sort share, for example `role-order`.
    fix:  what to do; FILE in it stands for the file.
    """

    kind: str
    message: str
    fix: str
    severity: Severity = "error"


@dataclass(frozen=True)
class Finding:
    """One fault and its place. line: counts from 1, blank lines too; None where the whole file is meant."""

    file: Path
    line: int | None
    kind: str
    severity: Severity
    message: str
    fix: str

    def __str__(self) -> str:
        place = display(self.file) if self.line is None else f"{display(self.file)}:{self.line}"
        return f"{place}: {self.severity}: {self.message}; {self.fix}"


@dataclass
class Findings:
    """All that was found, in bounded memory. `counts` knows the findings that are no longer kept as well."""

    kept: list[Finding] = field(default_factory=list)
    counts: Counter[tuple[Path, Severity, str]] = field(default_factory=Counter)

    def add(self, file: Path, line: int | None, faults: Iterable[Fault]) -> None:
        for fault in faults:
            same = (file, fault.severity, fault.kind)
            self.counts[same] += 1
            if self.counts[same] <= SHOWN:
                fix = fault.fix.replace("FILE", shlex.quote(display(file)))
                self.kept.append(Finding(file, line, fault.kind, fault.severity, fault.message, fix))

    def total(self, severity: Severity) -> int:
        return sum(count for (_, found, _), count in self.counts.items() if found == severity)

    def lines(self) -> list[str]:
        """As text, file by file from top to bottom; then, for each kind, how many are not shown."""
        order = {file: rank for rank, file in enumerate(dict.fromkeys(file for file, _, _ in self.counts))}
        shown = sorted(self.kept, key=lambda one: (order[one.file], one.line or 0))
        more = [
            f"{display(file)}: {severity}: {count - SHOWN:,} more of the kind {kind}"
            for (file, severity, kind), count in self.counts.items()
            if count > SHOWN
        ]
        return [str(finding) for finding in shown] + more
