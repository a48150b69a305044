"""The lab's networks: one network namespace with a bridge per site network, and one namespace per machine.

    sitewright-lab                          sitewright-lab-<machine>
      br-nodes (gateway, BMC addresses) ──── v-<machine> ═══ host0 (the machine's MAC)

An emulated machine (lab/emulator.py) has no namespace: its `v-<machine>` is a tap device that QEMU holds.

There is no uplink: nothing in here reaches the host's network, and the host reaches the lab only through
haproxy, which opens its outgoing connections inside the namespace.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from lab import paths
from lab.commands import run

NETNS_DIR = Path("/run/netns")


def bridge(network: str) -> str:
    """Interface name of the bridge of a site network."""
    return paths.short("br-", network)


def inside(*command: str) -> list[str]:
    """The command, run in the lab's network namespace. (`ip netns exec` would hide /sys/fs/cgroup.)"""
    return ["nsenter", f"--net={NETNS_DIR / paths.lab_name()}", *command]


def create_lab() -> None:
    """Make the lab's namespace, which routes between its bridges. Nothing happens where it is there."""
    if paths.lab_name() not in namespaces():
        run("ip", "netns", "add", paths.lab_name())
    run("ip", "-n", paths.lab_name(), "link", "set", "lo", "up")
    run(*inside("sysctl", "-qw", "net.ipv4.ip_forward=1"))


def create_bridge(network: str, addresses: Iterable[str]) -> None:
    """Make the bridge of a network. addresses: `10.77.0.1/24`, all that the lab itself answers on there."""
    device, lab = bridge(network), paths.lab_name()
    if device not in links(lab):
        run("ip", "-n", lab, "link", "add", device, "type", "bridge", "forward_delay", "0")
    run("ip", "-n", lab, "link", "set", device, "up")
    batch = "\n".join(f"addr replace {address} dev {device}" for address in addresses)
    run("ip", "-n", lab, "-batch", "-", stdin=batch + "\n")


def connect(machine: str, network: str, mac: str) -> Path:
    """Give a machine a namespace with interface `host0` on a network. Returns the namespace's path.
    A namespace left over from before is replaced: it may hold addresses and pods' interfaces."""
    disconnect(machine)
    namespace, lab, port = paths.machine_namespace(machine), paths.lab_name(), paths.short("v-", machine)
    run("ip", "netns", "add", namespace)
    run("ip", "-n", namespace, "link", "set", "lo", "up")
    peer = ["peer", "name", "host0", "address", mac, "netns", namespace]
    run("ip", "-n", lab, "link", "add", port, "type", "veth", *peer)
    run("ip", "-n", lab, "link", "set", port, "master", bridge(network), "up")
    return NETNS_DIR / namespace


def connect_tap(machine: str, network: str) -> str:
    """Give an emulated machine an interface on a network. Returns its name in the lab's namespace; the other end is
    the program that opens it, which gives it the machine's MAC address."""
    disconnect(machine)
    lab, port = paths.lab_name(), paths.short("v-", machine)
    run("ip", "-n", lab, "tuntap", "add", "dev", port, "mode", "tap")
    run("ip", "-n", lab, "link", "set", port, "master", bridge(network), "up")
    return port


def disconnect(machine: str) -> None:
    """Remove a machine's interface and namespace; nothing happens where they are gone."""
    port = paths.short("v-", machine)
    if paths.lab_name() in namespaces() and port in links(paths.lab_name()):
        run("ip", "-n", paths.lab_name(), "link", "delete", port, check=False)
    delete_namespace(paths.machine_namespace(machine))


def delete_namespace(name: str) -> None:
    """A namespace whose creator was killed half-way is a plain file: `ip` refuses it, so it is unlinked."""
    if name in namespaces():
        run("ip", "netns", "delete", name, check=False)
        (NETNS_DIR / name).unlink(missing_ok=True)


def namespaces() -> list[str]:
    """All named network namespaces of this host."""
    return sorted(entry.name for entry in NETNS_DIR.iterdir()) if NETNS_DIR.is_dir() else []


def lab_namespaces() -> list[str]:
    """Those of the lab: its own and its machines'."""
    own = paths.lab_name()
    return [name for name in namespaces() if name == own or name.startswith(f"{own}-")]


def occupants(namespace: str) -> set[int]:
    """Processes whose network is this namespace, whoever started them (the far end of an `ssh`, say)."""
    try:
        inode = (NETNS_DIR / namespace).stat().st_ino
    except FileNotFoundError:
        return set()
    return {int(process.name) for process in Path("/proc").glob("[0-9]*") if _network_of(process) == inode}


def links(namespace: str) -> list[str]:
    """Interfaces of a namespace."""
    return [link["ifname"] for link in json.loads(run("ip", "-n", namespace, "-j", "link") or "[]")]


def addresses(namespace: str, device: str) -> list[str]:
    """IPv4 addresses of an interface, without the prefix length."""
    text = run("ip", "-n", namespace, "-j", "-4", "addr", "show", "dev", device, check=False)
    return [info["local"] for link in json.loads(text or "[]") for info in link.get("addr_info", [])]


def _network_of(process: Path) -> int:
    try:
        return (process / "ns/net").stat().st_ino
    except OSError:  # gone meanwhile
        return 0
