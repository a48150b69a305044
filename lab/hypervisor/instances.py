"""VirtualMachineInstance: the object that stands for one run of a machine, from power-on to power-off."""

from typing import Any

from lab.hypervisor import conditions
from lab.hypervisor.api import INSTANCE, VIRTUAL_MACHINE, Api, Key, Object, key_of
from lab.hypervisor.boot import mac_address
from lab.hypervisor.conditions import condition

FINALIZER = "foregroundDeleteVirtualMachine"
RESTART = "sitewright.dev/restart"  # on a VM: a time; a new one restarts the machine once
PENDING = ("Pending", "Scheduling", "Scheduled")
FINISHED = ("Succeeded", "Failed")


def new(machine: Object) -> Object:
    """The instance a VM's template asks for, held until the machine is off."""
    template, metadata = machine["spec"]["template"], machine["metadata"]
    annotations = dict(template.get("metadata", {}).get("annotations", {}))
    if restart := restart_request(machine):
        annotations[RESTART] = restart
    return {
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": template.get("metadata", {}).get("labels", {}),
            "annotations": annotations,
            "finalizers": [FINALIZER],
            "ownerReferences": [
                {
                    "apiVersion": VIRTUAL_MACHINE.api_version,
                    "kind": VIRTUAL_MACHINE.kind,
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": template["spec"],
    }


def restart_request(body: Object) -> str:
    return body["metadata"].get("annotations", {}).get(RESTART, "")


def phase(instance: Object) -> str:
    return instance.get("status", {}).get("phase", "Pending")


def running_for(instance: Object) -> float:
    """Seconds since the machine was found running; 0 where it was not."""
    for entry in instance.get("status", {}).get("phaseTransitionTimestamps", []):
        if entry["phase"] == "Running":
            return conditions.age(entry["phaseTransitionTimestamp"])
    return 0.0


def set_phase(api: Api, instance: Object, name: str, message: str = "") -> Object:
    """The instance in a new phase. Conditions follow it: Ready while it runs, AgentConnected not yet."""
    before = instance.get("status", {})
    reason = "" if name == "Running" else "GuestNotRunning"
    state = [
        condition("Ready", name == "Running", reason, message),
        condition("AgentConnected", False),
    ]
    times = [entry for entry in before.get("phaseTransitionTimestamps", []) if entry["phase"] != name]
    change: dict[str, Any] = {
        "phase": name,
        "nodeName": "lab",
        "conditions": conditions.merged(before.get("conditions"), state),
        "phaseTransitionTimestamps": [*times, {"phase": name, "phaseTransitionTimestamp": conditions.now()}],
    }
    return api.patch(INSTANCE, key_of(instance), {"status": change}, "status") or instance


def set_addresses(api: Api, instance: Object, addresses: list[str], connected: bool) -> Object:
    """The instance with what is seen of the guest: its addresses, and whether it answers."""
    before = instance["status"]
    nic = instance["spec"]["domain"]["devices"]["interfaces"][0]
    found = {
        "name": nic["name"],
        "mac": mac_address(key_of(instance), nic),
        "infoSource": "domain, guest-agent" if connected else "domain",
        **({"ipAddress": addresses[0], "ipAddresses": addresses} if addresses else {}),
    }
    state = [condition("Ready", True), condition("AgentConnected", connected)]
    after = {"interfaces": [found], "conditions": conditions.merged(before.get("conditions"), state)}
    if {name: before.get(name) for name in after} == after:
        return instance
    return api.patch(INSTANCE, key_of(instance), {"status": after}, "status") or instance


def discard(api: Api, key: Key) -> None:
    """Delete the instance of a machine that is off."""
    api.delete(INSTANCE, key)
    api.patch(INSTANCE, key, {"metadata": {"finalizers": None}})
