"""VirtualMachine: keeps a machine running, or off, as its run strategy says.

Each look goes the same way: what is there (`_observe`), is it to stop (`_stopped_if_due`), is it to start
(`_start`), say so (`_report`). The VirtualMachineInstance is the memory between two looks: it is created
before the machine is powered on and deleted after it is off.
"""

import logging
import time
from typing import Any

from lab.hypervisor import boot, conditions, instances, places, report
from lab.hypervisor.api import (
    INSTANCE,
    VIRTUAL_MACHINE,
    Api,
    Key,
    Object,
    add_finalizer,
    is_deleting,
    remove_finalizer,
)
from lab.hypervisor.host import Host
from lab.hypervisor.pending import Pending
from lab.hypervisor.report import Seen
from lab.hypervisor.volumes import Volumes
from sitewright.errors import SitewrightError

log = logging.getLogger(__name__)

FINALIZER = "kubevirt.io/virtualMachineControllerFinalize"
TICK = 1.0  # seconds between two looks at whether a machine still runs
_SOON = 0.5  # seconds until the next look while something is on its way
_SETTLED_FOR = 15.0  # seconds a machine in good order is only looked at from outside
_GRACE = 30  # seconds to shut down, where the VM does not say
_MAX_BACKOFF = 60.0  # seconds between two starts of a machine that keeps failing
_STABLE_AFTER = 60.0  # seconds of running that make earlier failures forgotten


class VirtualMachines:
    def __init__(self, api: Api, host: Host, volumes: Volumes) -> None:
        self._api = api
        self._host = host
        self._volumes = volumes
        self._settled_until: dict[Key, float] = {}

    def reconcile(self, key: Key, changed: bool) -> float | None:
        if not changed and self._is_settled(key):
            return TICK
        self._settled_until.pop(key, None)
        machine = self._api.get(VIRTUAL_MACHINE, key)
        if machine is None:
            return None
        if is_deleting(machine):
            return self._delete(key, machine)
        machine = add_finalizer(self._api, VIRTUAL_MACHINE, machine, FINALIZER)
        return None if machine is None else self._keep(key, machine)

    def _is_settled(self, key: Key) -> bool:
        return time.monotonic() < self._settled_until.get(key, 0) and self._host.runs(key.name)

    def _keep(self, key: Key, machine: Object) -> float | None:
        seen = Seen(start_failure=machine.get("status", {}).get("startFailure"))
        try:
            seen.instance = self._observe(key, machine, seen)
            seen.instance = self._stopped_if_due(key, machine, seen.instance)
            self._volumes.ensure(machine)
            if seen.instance is None or instances.phase(seen.instance) in instances.PENDING:
                seen.instance = self._start(key, machine, seen)
        except Pending as problem:
            seen.pending = problem
            self._log_once(key, machine, problem)
        if seen.instance is not None and instances.phase(seen.instance) == "Running":
            seen.instance = self._look_inside(key, seen.instance, seen)
        self._report(key, machine, seen)
        return self._next_look(key, seen)

    def _observe(self, key: Key, machine: Object, seen: Seen) -> Object | None:
        """The instance as the machine behind it is now. None: nothing runs and nothing is left of a run."""
        instance, runs = self._api.get(INSTANCE, key), self._runs(key)
        if instance is None:
            if runs:
                log.warning("machine %s: runs without an instance; stopping it", key)
                self._host.power_off(key.name, _grace(machine))
            return None
        if instances.phase(instance) in instances.PENDING:
            # Powered on by a controller that was killed before it could say so: adopted.
            return instances.set_phase(self._api, instance, "Running") if runs else instance
        if instances.phase(instance) == "Running" and not runs:
            return self._ended(key, instance, seen)
        return instance

    def _ended(self, key: Key, instance: Object, seen: Seen) -> Object:
        """The machine went off without being told to."""
        if self._host.ended_well(key.name):
            log.info("machine %s: has shut itself down", key)
            return instances.set_phase(self._api, instance, "Succeeded")
        log.warning("machine %s: ended unexpectedly after %.0f s", key, instances.running_for(instance))
        self._count_failure(key, instance, seen)
        return instances.set_phase(self._api, instance, "Failed", "the machine ended unexpectedly")

    def _stopped_if_due(self, key: Key, machine: Object, instance: Object | None) -> Object | None:
        """None once a run that must not go on is over and its instance gone; else the instance."""
        if instance is None or not _must_go(machine, instance):
            return instance
        if self._host.runs(key.name):
            log.info("machine %s: powering off", key)
            self._report(key, machine, Seen(instance=instance, going="Stopping"))
            self._host.power_off(key.name, _grace(machine))
        instances.discard(self._api, key)
        return None

    def _start(self, key: Key, machine: Object, seen: Seen) -> Object | None:
        if machine["spec"]["runStrategy"] == "Halted" or _pause(seen.start_failure) > 0:
            return seen.instance
        machine_boot = boot.assemble(self._api, machine)
        if not self._is_free(key):
            raise Pending(
                "ErrorUnschedulable", "NameTaken", f"another machine of the lab is called {key.name}"
            )
        image = boot.image_of_root(self._api, machine)["metadata"]["uid"]
        instance = seen.instance or self._api.create(INSTANCE, instances.new(machine))
        try:
            self._host.mount_image(places.image_file(image), places.image_mount(image))
            self._host.start(machine_boot)
        except SitewrightError as problem:
            log.warning("machine %s: does not start: %s", key, problem.message)
            self._count_failure(key, instance, seen)
            return instances.set_phase(self._api, instance, "Failed", problem.message)
        log.info("machine %s: started", key)
        return instances.set_phase(self._api, instance, "Running")

    def _look_inside(self, key: Key, instance: Object, seen: Seen) -> Object:
        """The addresses the guest has, whether it answers, and whether it has run long enough to trust it."""
        if seen.start_failure and instances.running_for(instance) > _STABLE_AFTER:
            seen.start_failure = None
        addresses = self._host.addresses(key.name)
        connected = any(self._host.answers(address) for address in addresses)
        if connected and not conditions.holds(instance, "AgentConnected"):
            log.info("machine %s: answers at %s", key, ", ".join(addresses))
        return instances.set_addresses(self._api, instance, addresses, connected)

    def _next_look(self, key: Key, seen: Seen) -> float | None:
        instance = seen.instance
        if instance is not None and conditions.holds(instance, "AgentConnected"):
            self._settled_until[key] = time.monotonic() + _SETTLED_FOR
            return TICK
        if instance is not None and instances.phase(instance) == "Succeeded":
            return None
        if instance is not None or seen.pending is not None:
            return _SOON
        return max(0.0, _pause(seen.start_failure)) if seen.start_failure else None

    def _delete(self, key: Key, machine: Object) -> float | None:
        if FINALIZER not in machine["metadata"].get("finalizers", []):
            return None  # done; somebody else holds the object
        if self._runs(key):
            self._report(key, machine, Seen(instance=self._api.get(INSTANCE, key), going="Terminating"))
            self._host.power_off(key.name, _grace(machine))
        if self._host.owner(key.name) == str(key):
            self._host.remove(key.name)
        instances.discard(self._api, key)
        if self._volumes.remove_with(machine):
            # Also gives the API server's caches time: an image deleted next is refused while a volume is seen.
            return _SOON
        remove_finalizer(
            self._api, VIRTUAL_MACHINE, self._api.get(VIRTUAL_MACHINE, key) or machine, FINALIZER
        )
        log.info("machine %s: deleted", key)
        return None

    def _runs(self, key: Key) -> bool:
        return self._host.owner(key.name) == str(key) and self._host.runs(key.name)

    def _is_free(self, key: Key) -> bool:
        """Whether no machine of that name belongs to another namespace, or is a node."""
        return self._host.owner(key.name) in ("", str(key)) and not self._host.runs(key.name)

    def _count_failure(self, key: Key, instance: Object, seen: Seen) -> None:
        """Written before the instance goes, so that a new controller slows a crash loop down as well."""
        stable = instances.running_for(instance) > _STABLE_AFTER
        before = 0 if stable or not seen.start_failure else seen.start_failure["consecutiveFailCount"]
        seen.start_failure = {
            "consecutiveFailCount": before + 1,
            "lastFailedVMIUID": instance["metadata"]["uid"],
            "lastFailedTimestamp": conditions.now(),
        }
        self._api.patch(VIRTUAL_MACHINE, key, {"status": {"startFailure": seen.start_failure}}, "status")

    @staticmethod
    def _log_once(key: Key, machine: Object, problem: Pending) -> None:
        if conditions.message(machine, "Failure") != problem.message:
            log.info("machine %s: waits: %s", key, problem.message)

    def _report(self, key: Key, machine: Object, seen: Seen) -> None:
        if changes := report.changes(machine, report.status(machine, seen)):
            self._api.patch(VIRTUAL_MACHINE, key, {"status": changes}, "status")


def _must_go(machine: Object, instance: Object) -> bool:
    """Whether this run is over by the run strategy, by a deleted instance or by a request to restart."""
    strategy, phase = machine["spec"]["runStrategy"], instances.phase(instance)
    return (
        strategy == "Halted"
        or is_deleting(instance)
        or instances.restart_request(machine) != instances.restart_request(instance)
        or phase == "Failed"
        or (phase == "Succeeded" and strategy == "Always")
    )


def _grace(machine: Object) -> float:
    return float(machine["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", _GRACE))


def _pause(start_failure: dict[str, Any] | None) -> float:
    """Seconds until the next start of a machine that failed: none after the first failure, then doubling."""
    if not start_failure:
        return 0.0
    failures = start_failure["consecutiveFailCount"]
    backoff = 0.0 if failures < 2 else min(2.0 ** (failures - 1), _MAX_BACKOFF)
    return backoff - conditions.age(start_failure["lastFailedTimestamp"])
