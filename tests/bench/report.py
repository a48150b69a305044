"""All figures of a run on one page that needs no other file."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import jinja2

from tests.bench.figure import Figure

WIDTH = 420  # of the longest bar, in pixels
_TEMPLATE = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


class Bar(NamedTuple):
    """One value in a plot. kind: `met`, `missed`, or `plain` for what has no target, `target`, `peer`."""

    label: str
    value: float
    width: float
    kind: str


class Plot(NamedTuple):
    figure: Figure
    bars: list[Bar]

    @property
    def height(self) -> int:
        return 26 * len(self.bars)


def write(path: Path, figures: Sequence[Figure]) -> None:
    page = _TEMPLATE.get_template("report.html.j2").render(
        plots=[plot(figure) for figure in figures],
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=f"{platform.machine()}, Linux {platform.release()}",
        width=WIDTH,
    )
    path.write_text(page, encoding="utf-8")


def plot(figure: Figure) -> Plot:
    """The figure beside its target and its peer, on one scale that begins at 0."""
    kind = "plain"
    if figure.target is not None:
        kind = "met" if figure.value <= figure.target else "missed"
    named = [("measured", figure.value, kind)]
    if figure.target is not None:
        named.append(("target, at most", figure.target, "target"))
    peer = dict(figure.peer or {})
    name = str(peer.pop("name", "peer"))
    named += [
        (f"{name}, {key}", float(value), "peer")
        for key, value in peer.items()
        if isinstance(value, int | float)
    ]
    longest = max((abs(value) for _, value, _ in named), default=0) or 1
    return Plot(
        figure, [Bar(label, value, WIDTH * abs(value) / longest, kind) for label, value, kind in named]
    )
