"""How far a run is, read from the progress.jsonl that its training appends to.

The file may be read while it is written, and a run that was stopped may have left half a line in the middle.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from pydantic import BaseModel, ConfigDict, Field, ValidationError

RECENT = 20
"""Logged steps that the rate is taken from."""


class Point(BaseModel):
    """One logged step. time: seconds since 1970. loss may be nan: a run that diverges says so."""

    model_config = ConfigDict(frozen=True)

    step: int = Field(ge=0)
    steps: int = Field(ge=1)
    """in all"""
    loss: float
    learning_rate: float | None = None
    time: float


@dataclass(frozen=True)
class Progress:
    """How far a run is that has logged at least one step. points: each step once, in order."""

    points: Sequence[Point]

    @property
    def step(self) -> int:
        """The last logged step."""
        return self.points[-1].step

    @property
    def steps(self) -> int:
        """How many there will be."""
        return self.points[-1].steps

    @property
    def loss(self) -> float:
        return self.points[-1].loss

    @property
    def steps_per_second(self) -> float | None:
        """Over the last 20 logged steps; None before the second.

        The median of the pauses between them: neither a checkpoint nor the wait before a resume counts.
        """
        each = [
            (after.time - before.time) / (after.step - before.step)
            for before, after in pairwise(self.points[-RECENT:])
            # Nodes' clocks differ: after a resume elsewhere, time may go back.
            if after.time > before.time
        ]
        return 1 / median(each) if each else None

    @property
    def eta(self) -> float | None:
        """Seconds to the last step; None while the rate is not known."""
        rate = self.steps_per_second
        return None if rate is None else max(self.steps - self.step, 0) / rate


def read(path: Path) -> Progress | None:
    """The progress in a file; None before the first logged step."""
    found = points(path)
    return Progress(found) if found else None


def points(path: Path) -> list[Point]:
    """The logged steps, each once and in order; none where there is no file yet.

    A run that was stopped goes on at its last checkpoint and logs again what came after it: from a step that is
    logged anew, everything logged before is dropped. Lines that cannot be read are skipped: half-written ones.
    """
    found: list[Point] = []
    for point in _readable(path):
        while found and found[-1].step >= point.step:
            found.pop()
        found.append(point)
    return found


def _readable(path: Path) -> Iterator[Point]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for line in data.splitlines():
        with suppress(ValidationError):
            yield Point.model_validate_json(line)
