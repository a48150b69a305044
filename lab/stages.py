"""The stages of a long command, as the operator sees them: a live list on a terminal, plain lines elsewhere.

    stages = Stages(["checks", "network"])
    with stages, stages.stage("network") as stage:
        stage.say("waiting for the bridge")     # what it does or waits for, shown beside the elapsed time

Stages may run in parallel threads, and stages that nobody planned may join the list while it runs.
"""

import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

State = Literal["waiting", "running", "done", "failed"]
MARKS = {"waiting": ("·", "dim"), "running": ("▸", "cyan"), "done": ("✔", "green"), "failed": ("✘", "red")}
PLAIN_SECONDS = 15.0  # how often a stage that runs says so where there is no terminal


@dataclass
class Stage:
    """One line of the list. note: what it waits for while it runs, what came out of it afterwards."""

    name: str
    state: State = "waiting"
    note: str = ""
    began: float | None = None
    ended: float | None = None
    _said: float = field(default=0.0, repr=False)

    def say(self, note: str) -> None:
        self.note = note

    @property
    def elapsed(self) -> float:
        if self.began is None:
            return 0.0
        return (self.ended if self.ended is not None else time.monotonic()) - self.began


class Stages:
    """A context manager: the list is drawn while it is entered. out: None means standard output."""

    def __init__(self, planned: Iterable[str] = (), out: TextIO | None = None) -> None:
        self._stages: dict[str, Stage] = {}
        self._out = out or sys.stdout
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._over = threading.Event()
        self.plan(planned)

    def plan(self, names: Iterable[str]) -> None:
        """Put stages at the end of the list before they run; those that are there stay where they are."""
        with self._lock:
            for name in names:
                self._stages.setdefault(name, Stage(name))

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Runs the stage: done when the block ends, failed when it raises."""
        stage = self.begin(name)
        try:
            yield stage
        except BaseException:
            self.end(name, failed=True)
            raise
        self.end(name)

    def begin(self, name: str, note: str = "") -> Stage:
        self.plan([name])
        stage = self._stages[name]
        stage.state, stage.note, stage.began, stage.ended = "running", note, time.monotonic(), None
        stage._said = stage.began
        return stage

    def resume(self, name: str) -> Stage:
        """A stage that goes on after it seemed done: its time counts from its first beginning."""
        began = self._stages[name].began if name in self._stages else None
        stage = self.begin(name)
        stage.began = began if began is not None else stage.began
        return stage

    def end(self, name: str, note: str | None = None, failed: bool = False, at: float | None = None) -> None:
        """at: when it really ended, on `time.monotonic`, where that was before now."""
        stage = self._stages[name]
        stage.state, stage.ended = "failed" if failed else "done", at if at is not None else time.monotonic()
        stage.note = note if note is not None else stage.note
        if self._live is None:
            self._print(stage)

    def say(self, name: str, note: str) -> None:
        self._stages[name].say(note)

    def seconds(self) -> dict[str, float]:
        """Elapsed seconds of each stage that ran, in the order of the list."""
        return {s.name: round(s.elapsed, 2) for s in self._stages.values() if s.began is not None}

    def __iter__(self) -> Iterator[Stage]:
        return iter(list(self._stages.values()))

    def __enter__(self) -> Self:
        self._over.clear()
        if self._out.isatty():
            console = Console(file=self._out)
            self._live = Live(console=console, get_renderable=self._table, refresh_per_second=5)
            self._live.start()
        else:
            threading.Thread(target=self._tell, name="stages", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for stage in self:
            mark, style = MARKS[stage.state]
            elapsed = f"{stage.elapsed:6.1f} s" if stage.began is not None else ""
            note = Text(stage.note, style="dim", overflow="ellipsis", no_wrap=True)
            table.add_row(Text(mark, style=style), Text(stage.name), Text(elapsed, justify="right"), note)
        return table

    def _tell(self) -> None:
        """Without a terminal: a sign of life from every stage that takes long."""
        while not self._over.wait(1.0):
            for stage in self:
                if stage.state == "running" and time.monotonic() - stage._said >= PLAIN_SECONDS:
                    stage._said = time.monotonic()
                    self._print(stage)

    def _print(self, stage: Stage) -> None:
        ended = {"done": "done", "failed": "failed"}.get(stage.state, "running")
        note = f": {stage.note}" if stage.note else ""
        with self._lock:
            print(f"{stage.name}: {ended}, {stage.elapsed:.1f} s{note}", file=self._out, flush=True)


def as_json(stages: Stages) -> str:
    """The stages that ran as one JSON line: what `make bench` collects."""
    return json.dumps(stages.seconds())
