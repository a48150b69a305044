"""What is wrong with a site file, and where: one `Problem` per fault, all of them in one error."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from sitewright.errors import SitewrightError
from sitewright.site.files import display

Loc = tuple[str | int, ...]
"""A place in the site file as keys and list indices: ("pools", 0, "cluster")."""


@dataclass(frozen=True)
class Position:
    """A place in a file; line and column count from 1."""

    file: Path
    line: int
    column: int

    def __str__(self) -> str:
        return f"{display(self.file)}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One fault: `environments/lab.yaml:41:9: pools[0].cluster: no cluster named 'svcs'`."""

    position: Position
    loc: Loc
    message: str

    def __str__(self) -> str:
        path = dotted(self.loc)
        return f"{self.position}: {path}: {self.message}" if path else f"{self.position}: {self.message}"


class SiteFileError(SitewrightError):
    """The site file cannot be used; `problems` holds every fault, in the order of the file."""

    exit_status = 2

    def __init__(self, problems: Sequence[Problem], hint: str = "") -> None:
        self.problems = sorted(problems, key=_reading_order)
        super().__init__("\n".join(str(problem) for problem in self.problems), hint)


def _reading_order(problem: Problem) -> tuple[str, int, int, str]:
    position = problem.position
    return str(position.file), position.line, position.column, problem.message


def dotted(loc: Loc) -> str:
    """The loc as an operator writes it: `pools[0].overrides.x1000c0s0b0n0`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """` (did you mean 'svc'?)`, or, where nothing is near, the known names; empty when there are none."""
    names = sorted(set(known))
    near = get_close_matches(str(name), names, n=1, cutoff=0.6)
    if near:
        return f" (did you mean {near[0]!r}?)"
    return f"; there is {', '.join(names[:12])}{' …' if len(names) > 12 else ''}" if names else ""
