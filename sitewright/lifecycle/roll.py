"""Moves a pool to another boot image: a few nodes at a time, and no further than the first that fails.

What a node boots is what the provisioner has for it. `pulumi up` writes that and lets nodes that run go on; a roll
takes each of them to it: drained, off, on, joined, healthy, back in service. Every step is in the journal before the
next one begins, and each can be done again without harm, so a roll that was killed anywhere goes on where it was.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sitewright.errors import SitewrightError
from sitewright.lifecycle.batches import next_batch
from sitewright.lifecycle.cluster_node import ClusterNode
from sitewright.lifecycle.images import running, short
from sitewright.lifecycle.journal import Entry, Journal, Step
from sitewright.lifecycle.playbooks import Errors


class Actions(Protocol):
    """What touches the site. Each method takes the nodes of a batch that are due, and may raise for all of them."""

    def find(self, name: str) -> ClusterNode | None: ...
    def declare(self, nodes: Sequence[str]) -> None: ...
    def drain(self, nodes: Sequence[str]) -> Errors: ...
    def power(self, nodes: Sequence[str], action: str) -> Errors: ...
    def join(self, nodes: Sequence[str]) -> Errors: ...
    def check_health(self, nodes: Sequence[str]) -> Errors: ...
    def uncordon(self, name: str) -> None: ...


def where(entry: Entry, node: ClusterNode | None, target: str, reboot: bool = False) -> Step:
    """The step that a node has behind it, which the journal has at `entry`, on the way to `target`.

    reboot: it has to boot, whatever it runs.

    Somebody may have switched it, uncordoned it or declared another image while no roll ran.
    """
    ready = node is not None and node.ready
    rebooted = node is not None and node.boot_id != entry.boot_id
    image = running(node) if ready else ""
    if image == target and (rebooted or (entry.step == "planned" and not reboot)):
        return "joined"
    if entry.target != target:
        return "planned"
    if entry.step == "drained" and node and not node.cordoned:
        return "planned"
    if entry.step == "on" and rebooted and image:
        return "drained"  # it came back with another image: it has to boot again
    if entry.step in ("joined", "healthy") and not ready:
        return "off"
    return entry.step


@dataclass
class Roll:
    """nodes: xnames of the pool; save: writes the journal; show: takes a node and what it is at, for the operator."""

    journal: Journal
    nodes: Sequence[str]
    limit: int
    actions: Actions
    save: Callable[[Journal], None]
    show: Callable[[str, str], None]

    def pending(self) -> list[str]:
        """The nodes that do not run the image, and those that a roll has begun with; all, if they are to reboot."""
        due = set(self.nodes) - self.journal.done if self.journal.reboot else self.journal.unfinished.keys()
        return [name for name in self.nodes if name in due or self._runs(name) != self.journal.target]

    def run(self) -> list[str]:
        """Lead every pending node to the image. Returns: the nodes that came to it, in order.

        Raises: SitewrightError at the first failure, when the other nodes of that batch are back in service.
        """
        if self.journal.back:
            # First, for all: a node that restarts by itself meanwhile is to have left the image that is given up.
            self.actions.declare(self.nodes)
        self._pick_up()
        came: list[str] = []
        while pending := [name for name in self.pending() if name not in came]:
            unfinished = self.journal.unfinished
            begun = [name for name in pending if name in unfinished]
            waiting = [name for name in pending if name not in unfinished]
            batch = next_batch(begun, waiting, *self._out_of_service(), self.limit)
            self._begin([name for name in batch if name not in unfinished])
            self._lead(batch)
            came += batch
        self.finish()
        return came

    def finish(self) -> None:
        """No node is pending: the next roll is another one."""
        self.journal.complete = True
        self.save(self.journal)

    def _runs(self, name: str) -> str:
        return running(self.actions.find(name))

    def _out_of_service(self) -> tuple[set[str], set[str]]:
        """Those that are not Ready, and those that are cordoned."""
        found = {name: self.actions.find(name) for name in self.nodes}
        broken = {name for name, node in found.items() if node is None or not node.ready}
        return broken, {name for name, node in found.items() if node and node.cordoned}

    def _begin(self, names: Sequence[str]) -> None:
        """What has to be known afterwards is written down before anything is touched."""
        for name in names:
            node = self.actions.find(name)
            self.journal.nodes[name] = Entry(
                target=self.journal.target,
                boot_id=node.boot_id if node else "",
                cordoned=bool(node and node.cordoned),
            )
        if names:
            self.save(self.journal)

    def _pick_up(self) -> None:
        """Put each node of an earlier run at the step where it really is."""
        for name, entry in self.journal.unfinished.items():
            node = self.actions.find(name)
            entry.error = ""
            entry.step = where(entry, node, self.journal.target, self.journal.reboot)
            if entry.step in ("planned", "drained"):
                entry.boot_id = node.boot_id if node else entry.boot_id
            entry.target = self.journal.target
        # A node that is no longer in the pool is nobody's to roll.
        self.journal.nodes = {
            name: self.journal.nodes[name] for name in self.nodes if name in self.journal.nodes
        }
        self.save(self.journal)

    def _lead(self, batch: Sequence[str]) -> None:
        steps: list[tuple[Step, str, Callable[[Sequence[str]], Errors], Step]] = [
            ("planned", "drains", self._drain, "drained"),
            ("drained", "goes off", lambda names: self.actions.power(names, "off"), "off"),
            ("off", "goes on", lambda names: self.actions.power(names, "on"), "on"),
            ("on", "boots and joins", self._join, "joined"),
            ("joined", "is looked at", self.actions.check_health, "healthy"),
            ("healthy", "goes back into service", self._give_back, "done"),
        ]
        for before, doing, work, after in steps:
            due = [name for name in batch if self._is_due(name, before)]
            for name in due:
                self.show(name, doing)
            errors = _tried(work, due) if due else {}
            for name in due:
                self._note(name, after, errors.get(name, ""))
            if due:
                self.save(self.journal)
        self._stop_for_failures(batch)

    def _is_due(self, name: str, step: Step) -> bool:
        entry = self.journal.nodes[name]
        return entry.step == step and not entry.error

    def _note(self, name: str, step: Step, error: str) -> None:
        entry = self.journal.nodes[name]
        if error:
            entry.error = error
            self.show(name, f"failed: {error.splitlines()[0]}")
            return
        entry.step = step
        if step == "done":
            self.show(name, f"runs {short(entry.target)}" + (", still cordoned" if entry.cordoned else ""))

    def _drain(self, names: Sequence[str]) -> Errors:
        # A node that is not in the cluster has nothing that could go.
        errors = self.actions.drain([name for name in names if self.actions.find(name) is not None])
        if not self.journal.back:
            self.actions.declare([name for name in names if name not in errors])
        return errors

    def _join(self, names: Sequence[str]) -> Errors:
        errors = self.actions.join(names)
        return {**{name: why for name in names if (why := self._why_not_there(name))}, **errors}

    def _why_not_there(self, name: str) -> str:
        node, entry = self.actions.find(name), self.journal.nodes[name]
        if node is None or not node.ready:
            return f"{name} is not Ready"
        if node.boot_id == entry.boot_id:
            return f"{name} is still in the boot it was in before ({node.boot_id}): it was not switched off"
        if (now := running(node)) != entry.target:
            return f"{name} runs image {short(now)}, not {short(entry.target)}: the provisioner has another one for it"
        return ""

    def _give_back(self, names: Sequence[str]) -> Errors:
        for name in names:
            if not self.journal.nodes[name].cordoned:
                self.actions.uncordon(name)
        return {}

    def _stop_for_failures(self, batch: Sequence[str]) -> None:
        failed: Mapping[str, str] = {
            name: self.journal.nodes[name].error for name in batch if self.journal.nodes[name].error
        }
        if failed:
            raise RollStopped(failed)


class RollStopped(SitewrightError):
    """failed: by node, why."""

    def __init__(self, failed: Mapping[str, str]) -> None:
        super().__init__("\n".join(f"{name}: {why}" for name, why in failed.items()))
        self.failed = failed


def _tried(work: Callable[[Sequence[str]], Errors], names: Sequence[str]) -> Errors:
    try:
        return work(names)
    except SitewrightError as error:
        return dict.fromkeys(names, str(error))
