"""The loss of a run as a picture: one SVG file that needs nothing else, for browsers and reports."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, floor, isfinite, log10
from pathlib import Path
from typing import NamedTuple

import jinja2

from sitewright.errors import SitewrightError
from sitewright.tuning.progress import Point

WIDTH, HEIGHT = 800, 450
LEFT, RIGHT, TOP, BOTTOM = 70, 40, 40, 55  # space around the lines, for the axes
DRAWN = 1000
"""Points of a line at most; more are averaged, as they would lie within one pixel."""

_TEMPLATE = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


class Sample(NamedTuple):
    """A point of the curve."""

    step: float
    loss: float


class Tick(NamedTuple):
    place: float
    label: str


@dataclass(frozen=True)
class Axis:
    """Values from low to high, drawn from pixel `begin` to pixel `end`."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        return round(self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin), 2)

    def ticks(self, whole: bool) -> Iterator[Tick]:
        """Five or so, at round values. whole: steps have no fractions."""
        step = _round_step((self.high - self.low) / 5)
        step = max(step, 1) if whole else step
        digits = max(0, -floor(log10(step)))
        for index in range(ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9) + 1):
            yield Tick(self.at(index * step), f"{index * step:,.{digits}f}")


def loss_curve(points: Sequence[Point], path: Path, title: str = "Loss of the training") -> None:
    """Writes the picture: loss over steps, as logged and smoothed. A reader never sees half of it.

    Steps whose loss is not a number are left out and counted below the title.
    Raises: SitewrightError where no step has a loss to draw, or the file cannot be written.
    """
    samples = [Sample(point.step, point.loss) for point in points if isfinite(point.loss)]
    if not samples:
        logged = (
            f"{len(points):,} steps are logged, and none has a finite loss"
            if points
            else "no step is logged yet"
        )
        raise SitewrightError(f"{path}: nothing to draw: {logged}", "Look at the log of the run.")
    picture = _draw(samples, lost=len(points) - len(samples), title=title)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(picture, encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        raise SitewrightError(f"{path}: cannot be written: {error.strerror}", "Give another path.") from None


def smoothed(samples: Sequence[Sample]) -> list[Sample]:
    """The mean over a twentieth of the steps, 5 at least, around each; fewer towards both ends, so that none lags."""
    sums = [0.0, *accumulate(sample.loss for sample in samples)]
    most = max(2, len(samples) // 40)
    result = []
    for index, sample in enumerate(samples):
        half = min(most, index, len(samples) - 1 - index)
        total = sums[index + half + 1] - sums[index - half]
        result.append(Sample(sample.step, total / (2 * half + 1)))
    return result


def _draw(samples: list[Sample], lost: int, title: str) -> str:
    first, last = samples[0].step, samples[-1].step
    losses = [sample.loss for sample in samples]
    margin = (max(losses) - min(losses)) * 0.05 or abs(losses[0]) * 0.05 or 1
    across = Axis(first, last if last > first else first + 1, LEFT, WIDTH - RIGHT)
    up = Axis(min(losses) - margin, max(losses) + margin, HEIGHT - BOTTOM, TOP)
    return _TEMPLATE.get_template("loss_curve.svg.j2").render(
        title=title,
        note=f"steps without a finite loss, left out: {lost:,}" if lost else "",
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        top=TOP,
        bottom=HEIGHT - BOTTOM,
        across=list(across.ticks(whole=True)),
        up=list(up.ticks(whole=False)),
        raw=_line(_thinned(samples), across, up),
        smooth=_line(_thinned(smoothed(samples)), across, up),
        last=samples[-1],
        dots=len(samples) == 1,
    )


def _thinned(samples: Sequence[Sample]) -> list[Sample]:
    size = ceil(len(samples) / DRAWN)
    groups = [samples[begin : begin + size] for begin in range(0, len(samples), size)]
    return [
        Sample(sum(one.step for one in group) / len(group), sum(one.loss for one in group) / len(group))
        for group in groups
    ]


def _line(samples: Sequence[Sample], across: Axis, up: Axis) -> str:
    return " ".join(f"{across.at(sample.step)},{up.at(sample.loss)}" for sample in samples)


def _round_step(about: float) -> float:
    """The number of 1, 2, 5, 10, 20, … that is next above."""
    power = 10 ** floor(log10(about))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= about * 0.999)
