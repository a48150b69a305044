"""Pulumi's engine events as stages: one line per top component, with what works in it at the moment.

The engine writes one JSON object per line (`pulumi up --event-log FILE`). Resources that do not change are
left out, so the list of a second `up` is empty.
Source: pulumi, sdk/go/common/apitype/events.go.
"""

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.stages import Stages

QUIET = {"same", "read", "refresh"}
POLL_SECONDS = 0.2
# A component whose resources are all done may get more of them; only after this long it counts as done.
IDLE_SECONDS = 2.0


@dataclass
class _Group:
    """One component. working: its resources that are being worked on, with what is said about them."""

    stage: str
    working: dict[str, str] = field(default_factory=dict)
    done: int = 0
    failed: str = ""
    idle_since: float | None = None


class EventStages:
    """Shows the events of one `pulumi up`. errors: what the engine reported, for the message at the end;
    changes: how many resources, by operation."""

    def __init__(self, stages: Stages, clock: Callable[[], float] = time.monotonic) -> None:
        self._stages = stages
        self._clock = clock
        self._groups: dict[str, _Group] = {}
        self._parents: dict[str, str] = {}
        self.errors: list[str] = []
        self.changes: dict[str, int] = {}

    def take(self, event: dict[str, Any]) -> None:
        for kind, handle in (
            ("resourcePreEvent", self._begins),
            ("resOutputsEvent", self._ends),
            ("resOpFailedEvent", self._fails),
            ("diagnosticEvent", self._says),
            ("summaryEvent", self._summary),
        ):
            if kind in event:
                handle(event[kind])

    def tick(self) -> None:
        """End the stages of components that have been idle for a while. Called several times a second."""
        for group in self._groups.values():
            if group.idle_since is not None and self._clock() - group.idle_since >= IDLE_SECONDS:
                self._end(group)

    def close(self) -> None:
        """The engine has ended: so has everything it showed, finished or not."""
        for group in self._groups.values():
            if group.working:
                group.failed = group.failed or f"cut off: {', '.join(group.working.values())}"
            if group.working or group.idle_since is not None:
                self._end(group)

    def _begins(self, event: dict[str, Any]) -> None:
        urn = self._learn(event)
        if event["metadata"]["op"] in QUIET or not _is_shown(event):
            return
        group = self._group(urn)
        if group.idle_since is None and not group.working:
            self._stages.resume(group.stage)
        group.idle_since = None
        group.working[urn] = _name(urn)
        self._note(group)

    def _ends(self, event: dict[str, Any]) -> None:
        self._leave(self._learn(event), failed=False)

    def _fails(self, event: dict[str, Any]) -> None:
        self._leave(self._learn(event), failed=True)

    def _says(self, event: dict[str, Any]) -> None:
        text, urn = plain(event.get("message", "")).strip(), event.get("urn", "")
        if not text or event.get("severity") == "debug":
            return
        if event.get("severity") == "error" and not event.get("ephemeral"):
            if text != "update failed":  # says that there was another error
                self.errors.append(f"{_name(urn)}: {_one_error(text)}" if urn else _one_error(text))
        elif urn in self._parents:
            group = self._group(urn)
            if urn in group.working:
                group.working[urn] = f"{_name(urn)}: {text.splitlines()[-1]}"
                self._note(group)

    def _summary(self, event: dict[str, Any]) -> None:
        self.changes = {op: n for op, n in event.get("resourceChanges", {}).items() if op != "same"}

    def _leave(self, urn: str, failed: bool) -> None:
        group = self._group(urn)
        if group.working.pop(urn, None) is None:
            return
        group.done += 1
        group.failed = f"failed at {_name(urn)}" if failed else group.failed
        self._note(group)
        if not group.working:
            group.idle_since = self._clock()

    def _note(self, group: _Group) -> None:
        self._stages.say(group.stage, ", ".join(group.working.values()) or _count(group.done))

    def _end(self, group: _Group) -> None:
        self._stages.end(
            group.stage, group.failed or _count(group.done), bool(group.failed), group.idle_since
        )
        group.working.clear()
        group.idle_since = None

    def _learn(self, event: dict[str, Any]) -> str:
        metadata = event["metadata"]
        state = metadata.get("new") or metadata.get("old") or {}
        if metadata["urn"] not in self._parents or state:
            self._parents[metadata["urn"]] = state.get("parent", "")
        return metadata["urn"]

    def _group(self, urn: str) -> _Group:
        """The topmost resource above it that is not the stack."""
        while (parent := self._parents.get(urn, "")) and not _is_stack(parent):
            urn = parent
        if urn not in self._groups:
            self._groups[urn] = _Group(f"  {_type(urn)} {_name(urn)}")
        return self._groups[urn]


class Follower(threading.Thread):
    """Reads the event log while the engine writes it, until `finish`."""

    def __init__(self, file: Path, events: EventStages) -> None:
        super().__init__(name="pulumi-events", daemon=True)
        self._file = file
        self._events = events
        self._over = threading.Event()

    def finish(self) -> None:
        """Reads what is left and returns."""
        self._over.set()
        self.join()

    def run(self) -> None:
        rest = ""
        with self._file.open() as stream:
            while True:
                over = self._over.is_set()
                rest += stream.read()
                *lines, rest = rest.split("\n")
                for line in filter(None, lines):
                    self._events.take(json.loads(line))
                self._events.tick()
                if over:
                    return
                self._over.wait(POLL_SECONDS)


def plain(text: str) -> str:
    """Without the engine's markup for colours and the terminal's own."""
    return re.sub(r"<\{%.*?%\}>|\x1b\[[0-9;]*m", "", text)


def _is_shown(event: dict[str, Any]) -> bool:
    """Whether it is work: components only hold others, providers are there at once."""
    metadata = event["metadata"]
    state = metadata.get("new") or metadata.get("old") or {}
    return state.get("custom", False) and ":providers:" not in metadata["urn"]


def _one_error(text: str) -> str:
    """Without the frame that the engine puts around a single error."""
    return text.removeprefix("1 error occurred:").strip().removeprefix("* ").strip()


def _is_stack(urn: str) -> bool:
    return urn.split("::")[2] == "pulumi:pulumi:Stack"


def _type(urn: str) -> str:
    """`PlaybookRun` of `…::sitewright:index:PlaybookRun::name`."""
    return urn.split("::")[2].split("$")[-1].rpartition(":")[2]


def _name(urn: str) -> str:
    return urn.split("::", 3)[-1]


def _count(number: int) -> str:
    return f"{number} resource{'' if number == 1 else 's'}"
