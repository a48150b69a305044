"""The status of a VirtualMachine, from what is known of it. Source: KubeVirt's VM controller."""

from dataclasses import dataclass, field
from typing import Any

from lab.hypervisor import conditions
from lab.hypervisor.api import Object
from lab.hypervisor.conditions import condition
from lab.hypervisor.instances import PENDING, phase
from lab.hypervisor.pending import Pending


@dataclass
class Seen:
    """What one look at a machine found. instance: the run that goes on or ended, None: there is none.
    pending: why it cannot start; going: `Stopping` or `Terminating` while it is being powered off;
    start_failure: starts and runs that failed in a row, as the status keeps them."""

    instance: Object | None = None
    pending: Pending | None = None
    going: str = ""
    start_failure: dict[str, Any] | None = field(default=None)


def status(machine: Object, seen: Seen) -> dict[str, Any]:
    """The fields of the status that belong to the controller, None where one must go."""
    instance = seen.instance
    running = instance is not None and phase(instance) == "Running" and not seen.going
    connected = instance is not None and running and conditions.holds(instance, "AgentConnected")
    state = [_ready(running, seen), condition("AgentConnected", connected)]
    if running and instance is not None and instance["spec"] != machine["spec"]["template"]["spec"]:
        message = "the template differs from the machine that runs; it is used from the next start on"
        state.append(condition("RestartRequired", True, "TemplateChanged", message))
    if seen.pending is not None:
        state.append(condition("Failure", True, seen.pending.reason, seen.pending.message))
    generation = machine["metadata"]["generation"]
    return {
        "created": True if instance is not None else None,
        "ready": True if running else None,
        "printableStatus": seen.going or _printable(instance, seen),
        "runStrategy": machine["spec"]["runStrategy"],
        "observedGeneration": generation,
        "desiredGeneration": generation,
        "startFailure": seen.start_failure,
        "conditions": conditions.merged(machine.get("status", {}).get("conditions"), state),
    }


def changes(machine: Object, wanted: dict[str, Any]) -> dict[str, Any]:
    """The part of `wanted` that the machine's status does not say already."""
    known = machine.get("status", {})
    return {name: value for name, value in wanted.items() if known.get(name) != value}


def _printable(instance: Object | None, seen: Seen) -> str:
    if instance is not None and phase(instance) == "Running":
        return "Running"
    if seen.pending is not None:
        return seen.pending.printable
    if instance is None:
        return "CrashLoopBackOff" if seen.start_failure else "Stopped"
    return "Starting" if phase(instance) in PENDING else "Stopped"


def _ready(running: bool, seen: Seen) -> conditions.Condition:
    if running:
        return condition("Ready", True)
    if seen.going:
        return condition("Ready", False, "GuestNotRunning", "the machine is being powered off")
    if seen.pending is not None:
        return condition("Ready", False, seen.pending.reason, seen.pending.message)
    if seen.instance is None:
        return condition("Ready", False, "VMINotExists", "the machine is off")
    return condition("Ready", False, "GuestNotRunning", conditions.message(seen.instance, "Ready"))
