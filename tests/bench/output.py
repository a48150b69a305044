"""What `sitewright lab up` prints where it has no terminal, as stages: `pulumi up: done, 137.0 s: 42 create`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LINE = re.compile(
    r"(?P<name>\s*\S.*?): (?P<state>done|failed|running), (?P<seconds>[\d.]+) s(?:: (?P<note>.*))?"
)


@dataclass(frozen=True)
class Stage:
    """component: one of `pulumi up`, which runs beside others; ended: when its line came, on the clock of
    the reader."""

    name: str
    state: str
    seconds: float
    note: str
    component: bool
    ended: float = 0.0


def stage_of(line: str, at: float = 0.0) -> Stage | None:
    """The stage a line is about; None for other text."""
    match = _LINE.fullmatch(line.rstrip("\n"))
    if not match:
        return None
    name = match["name"]
    return Stage(
        name.strip(),
        match["state"],
        float(match["seconds"]),
        match["note"] or "",
        name.startswith(" "),
        at,
    )


def ended(stages: Iterable[Stage]) -> list[Stage]:
    """The stages that ended, once each: a component that got more resources after it seemed done is printed
    again, with the time from its first beginning."""
    last = {stage.name: stage for stage in stages if stage.state != "running"}
    return list(last.values())
