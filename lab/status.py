"""What runs in the lab: its services, its machines and the ports it publishes. Reads only."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from lab import cgroup, emulator, machine, network, paths, supervisor
from lab.plan import LabPlan


@dataclass(frozen=True)
class ServiceStatus:
    name: str
    state: str  # supervisord's word: RUNNING, STARTING, BACKOFF, STOPPED, EXITED, FATAL
    seconds: int  # since it was started
    pid: int


@dataclass(frozen=True)
class MachineStatus:
    """kind: `vm`, `node`, or `unknown` for one that the site file does not name; memory: bytes in use."""

    name: str
    kind: str
    state: str
    address: str
    seconds: int
    memory: int
    memory_limit: int


@dataclass(frozen=True)
class PortStatus:
    name: str
    port: int  # on 127.0.0.1
    to: list[str]


@dataclass(frozen=True)
class Status:
    state: str  # `up`, `partly` (some services do not run) or `down`
    services: list[ServiceStatus]
    machines: list[MachineStatus]
    ports: list[PortStatus]

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def status(plan: LabPlan) -> Status:
    found = services()
    ports = [PortStatus(p.name, p.port, list(p.to)) for p in (plan.site.lab.publish if plan.site.lab else [])]
    return Status(_state(found), found, machines(plan), ports)


def services() -> list[ServiceStatus]:
    return [
        ServiceStatus(info["name"], info["statename"], int(supervisor.uptime(info)), info["pid"])
        for info in supervisor.processes()
    ]


def machines(plan: LabPlan) -> list[MachineStatus]:
    """Those of the site file, and any other that is there."""
    known = {vm.name: ("vm", vm.address, vm.memory) for vm in plan.site.vms}
    known |= {node.xname: ("node", node.address, node.memory) for node in plan.site.nodes}
    others = {name: ("unknown", "", 0) for name in machine.names() if name not in known}
    return [_machine(name, *what) for name, what in (known | others).items()]


def _machine(name: str, kind: str, address: str, limit: int) -> MachineStatus:
    state = machine.state(name)
    seconds = 0
    if state == "running":
        found = network.addresses(paths.machine_namespace(name), "host0")
        address = found[0] if found else address
        seconds = _age(machine.init_pid(name) or emulator.init_pid(name))
    used = cgroup.memory_used(paths.machine_cgroup(name))
    return MachineStatus(name, kind, state, address, seconds, used, limit)


def _age(pid: int | None) -> int:
    """Seconds since the process was started."""
    if pid is None or (started := machine.started_at(pid)) is None:
        return 0
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def _state(found: list[ServiceStatus]) -> str:
    if not found:
        return "down"
    return "up" if all(service.state == "RUNNING" for service in found) else "partly"
