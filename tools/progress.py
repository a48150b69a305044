"""What an operator sees while programs are built: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tools.pins import Module, Program

Work = Sequence[tuple[Module, list[Program]]]

PLAIN_SECONDS = 60
"""How often a build without a terminal says that it is alive."""


class Progress(Protocol):
    def start(self, work: Work) -> None: ...
    def begin(self, module: Module, programs: Sequence[Program]) -> None: ...
    def show(self, module: Module, linked: int, package: str) -> None: ...
    def end(self, module: Module) -> None: ...
    def note(self, text: str) -> None: ...
    def stop(self) -> None: ...


class Silent:
    """Shows nothing; for tests and library use."""

    def start(self, work: Work) -> None: ...
    def begin(self, module: Module, programs: Sequence[Program]) -> None: ...
    def show(self, module: Module, linked: int, package: str) -> None: ...
    def end(self, module: Module) -> None: ...
    def note(self, text: str) -> None: ...
    def stop(self) -> None: ...


class Lines(Silent):
    """One line per event, and a sign of life every minute: for logs and CI."""

    def start(self, work: Work) -> None:
        self.left = len(work)
        self.started = time.monotonic()
        click.echo(f"{_count(work)} to build; {_minutes(work)} from empty Go caches on 2 cores")

    def begin(self, module: Module, programs: Sequence[Program]) -> None:
        self.began = self.said = time.monotonic()
        self.wanted = len(programs)
        click.echo(
            f"{module.name}: building {', '.join(p.name for p in programs)} ({self.left} modules left)"
        )

    def show(self, module: Module, linked: int, package: str) -> None:
        now = time.monotonic()
        if now - self.said >= PLAIN_SECONDS:
            self.said = now
            done = f"{linked} of {self.wanted} programs"
            click.echo(f"{module.name}: {_clock(now - self.began)}, {done}, {package[:60]}")

    def end(self, module: Module) -> None:
        self.left -= 1
        click.echo(f"{module.name}: done in {_clock(time.monotonic() - self.began)}")

    def note(self, text: str) -> None:
        click.echo(text)


class Screen(Silent):
    """One row per module with its state, elapsed time and programs; redrawn in place."""

    def __init__(self, console: Console | None = None) -> None:
        self.rows: dict[str, _Row] = {}
        self.package = ""
        self.started = time.monotonic()
        self.live = Live(console=console, get_renderable=self._picture, refresh_per_second=4)

    def start(self, work: Work) -> None:
        self.rows = {module.name: _Row(programs, module.minutes) for module, programs in work}
        self.live.start()

    def begin(self, module: Module, programs: Sequence[Program]) -> None:
        self.rows[module.name].began = time.monotonic()

    def show(self, module: Module, linked: int, package: str) -> None:
        self.rows[module.name].linked = linked
        self.package = package

    def end(self, module: Module) -> None:
        row = self.rows[module.name]
        row.ended, row.linked = time.monotonic(), len(row.programs)
        self.package = ""

    def note(self, text: str) -> None:
        self.live.console.print(text)

    def stop(self) -> None:
        self.live.stop()

    def _picture(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        for heading in ("module", "state", "elapsed", "programs"):
            table.add_column(heading)
        for name, row in self.rows.items():
            table.add_row(name, row.state(), row.elapsed(), f"{row.linked} of {len(row.programs)}")
        left = sum(1 for row in self.rows.values() if not row.ended)
        foot = f"{_clock(time.monotonic() - self.started)}, {left} modules left  {self.package[:70]}"
        return Group(table, Text(foot, style="dim", overflow="ellipsis", no_wrap=True))


class _Row:
    def __init__(self, programs: Sequence[Program], minutes: float) -> None:
        self.programs, self.minutes = programs, minutes
        self.linked = 0
        self.began = self.ended = 0.0

    def state(self) -> str:
        return "done" if self.ended else "building" if self.began else f"waits (up to {self.minutes:g} min)"

    def elapsed(self) -> str:
        return _clock((self.ended or time.monotonic()) - self.began) if self.began else ""


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _count(work: Work) -> str:
    programs = sum(len(programs) for _, programs in work)
    return f"{programs} programs in {len(work)} modules"


def _minutes(work: Work) -> str:
    return f"about {sum(module.minutes for module, _ in work):.0f} min"
