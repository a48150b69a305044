"""Load balancers of the lab: an address, and a haproxy that listens there.

The address is put on `lo` of the lab's network namespace, which answers for it on all of its bridges. Like a
machine, a haproxy belongs to nobody: it outlives the controller, and is found again by the name of its control
group.
"""

from dataclasses import dataclass
from pathlib import Path

from lab import cgroup, network, paths
from lab.commands import run


@dataclass(frozen=True, order=True)
class Server:
    name: str
    address: str


@dataclass(frozen=True)
class Balancer:
    """name: unique in the lab; ports: in front and behind; check_period, check_timeout: seconds;
    rise, fall: checks until a server counts as up, or down."""

    name: str
    address: str
    ports: tuple[tuple[int, int], ...]
    servers: tuple[Server, ...]
    check_port: int
    check_period: int
    check_timeout: int
    rise: int
    fall: int


def configuration(balancer: Balancer) -> str:
    """haproxy's. A server that is gone is found out by the first connection to it, which goes to another one:
    checks alone would take `fall` periods."""
    check = (
        f"check port {balancer.check_port} inter {balancer.check_period}s"
        f" rise {balancer.rise} fall {balancer.fall}"
    )
    head = f"""global
  hard-stop-after 1m  # of the haproxy that a new configuration replaces
defaults
  mode tcp
  balance leastconn
  option redispatch 1
  timeout connect 2s
  timeout check {balancer.check_timeout}s
  timeout client 1h  # watches of the Kubernetes API are silent for long
  timeout server 1h
"""
    parts = [
        "\n".join(
            [
                f"listen port-{front}",
                f"  bind {balancer.address}:{front}",
                *(
                    f"  server {server.name} {server.address}:{back} {check} on-marked-down shutdown-sessions"
                    for server in balancer.servers
                ),
            ]
        )
        for front, back in balancer.ports
    ]
    return "\n".join([head, *parts, ""])


def balance(balancer: Balancer) -> None:
    """Make the address lead to the servers. Nothing happens where it does."""
    file, group, text = _file(balancer.name), _group(balancer.name), configuration(balancer)
    running = sorted(cgroup.processes(group))
    if running and file.exists() and file.read_text() == text:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    cgroup.create(group)
    _address("replace", balancer.address)
    # It takes the connections over from those that run, which end with their last one.
    replaced = ["-sf", *map(str, running)] if running else []
    run(*network.inside(*cgroup.wrap(group, ["haproxy", "-q", "-D", "-f", str(file), *replaced])))


def unbalance(name: str, address: str) -> None:
    """Remove all of it. Nothing happens where nothing is. address: empty where it never had one."""
    cgroup.kill(_group(name))
    cgroup.remove(_group(name))
    _file(name).unlink(missing_ok=True)
    if address in network.addresses(paths.lab_name(), "lo"):
        _address("delete", address)


def _address(action: str, address: str) -> None:
    run("ip", "-n", paths.lab_name(), "addr", action, f"{address}/32", "dev", "lo")


def _file(name: str) -> Path:
    return paths.state_dir() / "hypervisor" / "balancers" / f"{name}.cfg"


def _group(name: str) -> str:
    return f"{paths.lab_name()}/balancers/{name}"
