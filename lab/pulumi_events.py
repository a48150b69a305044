"""Pulumi's engine events as stages: one line per top component, with what works in it at the moment.

The engine writes one JSON object per line (`pulumi up --event-log FILE`). Resources that do not change are
left out, so the list of a second `up` is empty.
Source: pulumi, sdk/go/common/apitype/events.go.
"""

import json
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.stages import Stages

QUIET = {"same", "read", "refresh"}
POLL_SECONDS = 0.2


@dataclass
class _Group:
    """One component. working: names of the resources that are being worked on."""

    stage: str
    working: dict[str, str] = field(default_factory=dict)
    changed: int = 0


class EventStages:
    """Shows the events of one `pulumi up`. errors: what the engine reported, for the message at the end."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
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

    def close(self, failed: bool) -> None:
        """What still runs when the engine ended was cut off."""
        for group in self._groups.values():
            if group.working:
                group.working.clear()
                self._stages.end(group.stage, failed=failed)

    def _begins(self, event: dict[str, Any]) -> None:
        urn = self._learn(event)
        if event["metadata"]["op"] not in QUIET and not _is_component(event):
            group = self._group(urn)
            if not group.working:
                self._stages.resume(group.stage)
            group.working[urn] = _name(urn)
            self._note(group)

    def _ends(self, event: dict[str, Any]) -> None:
        self._learn(event)
        self._leave(event["metadata"]["urn"], failed=False)

    def _fails(self, event: dict[str, Any]) -> None:
        self._leave(event["metadata"]["urn"], failed=True)

    def _says(self, event: dict[str, Any]) -> None:
        text = plain(event.get("message", "")).strip()
        if not text:
            return
        if event.get("severity") in ("error", "info#err") and not event.get("ephemeral"):
            self.errors.append(f"{_name(event['urn'])}: {text}" if event.get("urn") else text)
        elif (urn := event.get("urn")) in self._parents:
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
        group.changed += 1
        if failed or not group.working:
            note = f"failed at {_name(urn)}" if failed else _count(group.changed)
            self._stages.end(group.stage, note, failed)
        else:
            self._note(group)

    def _note(self, group: _Group) -> None:
        self._stages.say(group.stage, ", ".join(group.working.values()))

    def _learn(self, event: dict[str, Any]) -> str:
        metadata = event["metadata"]
        state = metadata.get("new") or metadata.get("old") or {}
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
                if over:
                    return
                self._over.wait(POLL_SECONDS)


def plain(text: str) -> str:
    """Without the engine's markup for colours and the terminal's own."""
    return re.sub(r"<\{%.*?%\}>|\x1b\[[0-9;]*m", "", text)


def _is_component(event: dict[str, Any]) -> bool:
    state = event["metadata"].get("new") or event["metadata"].get("old") or {}
    return not state.get("custom", True)


def _is_stack(urn: str) -> bool:
    return urn.split("::")[2] == "pulumi:pulumi:Stack"


def _type(urn: str) -> str:
    """`PlaybookRun` of `…::sitewright:index:PlaybookRun::name`."""
    return urn.split("::")[2].split("$")[-1].rpartition(":")[2]


def _name(urn: str) -> str:
    return urn.split("::", 3)[-1]


def _count(number: int) -> str:
    return f"{number} resource{'' if number == 1 else 's'}"
