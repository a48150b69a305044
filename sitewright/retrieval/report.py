"""A comparison as files: the JSON document, and one page for browsers that needs nothing else."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from sitewright.errors import SitewrightError
from sitewright.retrieval.scores import METRICS
from sitewright.tuning.curve import Axis

WIDTH, ROW, LEFT, RIGHT = 640, 26, 190, 30
_TEMPLATE = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


class Bar(NamedTuple):
    """A mean and its interval, in pixels. place: number of the model, which has one colour."""

    top: float
    place: int
    label: str
    value: str
    mean: float
    low: float
    high: float


class Picture(NamedTuple):
    title: str
    height: float
    ticks: list[tuple[float, str]]
    bars: list[Bar]


def write(found: dict[str, Any], document: Path, page: Path) -> None:
    """Writes both. A reader never sees half of one. Raises: SitewrightError where one cannot be written."""
    _put(document, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    _put(page, html(found))


def html(found: dict[str, Any]) -> str:
    return _TEMPLATE.get_template("comparison.html.j2").render(
        found=found,
        metrics=METRICS,
        pictures=[*(_scores(found, metric) for metric in METRICS), *_latencies(found)],
        width=WIDTH,
        left=LEFT,
        row=ROW,
    )


def text(found: dict[str, Any]) -> str:
    """The means with their intervals, as lines of a terminal."""
    lines = [f"{len(found['questions']):,} questions; mean and 95 % confidence interval"]
    for model in found["models"]:
        shown = [f"{metric} {_with_interval(model['scores'][metric])}" for metric in METRICS]
        latency = model["latency"]
        cost = f"p50 {latency['p50']:.2f} s, p95 {latency['p95']:.2f} s" if latency else "no answer"
        failed = f", {len(model['failed']):,} failed" if model["failed"] else ""
        lines.append(f"{model['kind']:8}{model['model']}: {', '.join(shown)}; {cost}{failed}")
    return "\n".join(lines)


def _with_interval(found: dict[str, float]) -> str:
    return f"{found['mean']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _scores(found: dict[str, Any], metric: str) -> Picture:
    across = Axis(0, 1, LEFT, WIDTH - RIGHT)
    bars = [
        _bar(across, place, model, model["scores"][metric], f"{model['scores'][metric]['mean']:.2f}")
        for place, model in enumerate(found["models"])
    ]
    return _picture(f"{METRICS[metric]} (0 to 1)", across, bars)


def _latencies(found: dict[str, Any]) -> list[Picture]:
    """Bars to the median, lines on to the 95th percentile; none where nothing was answered."""
    known = [(place, model) for place, model in enumerate(found["models"]) if model["latency"]]
    if not known:
        return []
    across = Axis(0, max(model["latency"]["p95"] for _, model in known) or 1, LEFT, WIDTH - RIGHT)
    bars = []
    for row, (place, model) in enumerate(known):
        p50, p95 = model["latency"]["p50"], model["latency"]["p95"]
        span = {"mean": p50, "low": p50, "high": p95}
        bars.append(_bar(across, place, model, span, f"{p50:.2f} s")._replace(top=row * ROW))
    return [_picture("latency in seconds: median, and up to the 95th percentile", across, bars)]


def _bar(across: Axis, place: int, model: dict[str, Any], span: dict[str, float], value: str) -> Bar:
    mean, low, high = (across.at(span[name]) for name in ("mean", "low", "high"))
    return Bar(place * ROW, place, f"{model['kind']}: {model['model']}", value, mean, low, high)


def _picture(title: str, across: Axis, bars: list[Bar]) -> Picture:
    ticks = [(tick.place, tick.label) for tick in across.ticks(whole=False)]
    return Picture(title, len(bars) * ROW + 24, ticks, bars)


def _put(path: Path, content: str) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(content, encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        raise SitewrightError(f"{path}: cannot be written: {error.strerror}", "Give another path.") from None
