"""What the controller does to the host it runs on: images mounted, machines started and stopped.

`Host` is the whole list. `LabHost` does it with `lab.machine`; the contract tests bring one that only
pretends, so that they need neither root nor an image.
"""

import shutil
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab import machine, mounts, network, paths
from lab.commands import run
from lab.hypervisor import balancing
from lab.hypervisor.balancing import Balancer
from lab.machine import Bind, Machine

# Directories that container runtimes and etcd want on a plain file system, never on an overlay.
DATA_DIRECTORIES = ("containerd", "kubelet", "etcd")
SEED = "/var/lib/cloud/seed/nocloud"
_SSH = 22


@dataclass(frozen=True)
class Boot:
    """A machine to be started. owner: `namespace/name` of its VirtualMachine; image: mounted, read-only;
    volume: directory of its disk; seed: what cloud-init reads, by file name; memory: bytes."""

    name: str
    owner: str
    image: Path
    volume: Path
    seed: Mapping[str, str]
    network: str
    mac: str
    cpus: int
    memory: int


class Host(Protocol):
    def mount_image(self, file: Path, target: Path) -> None:
        """Make the content of the image readable at `target`. Nothing happens where it is."""

    def unmount_image(self, target: Path) -> None:
        """Undo `mount_image`, `target` included."""

    def start(self, boot: Boot) -> None:
        """Power on. Returns once the machine's first process runs."""

    def power_off(self, name: str, grace: float) -> None:
        """Shut down; cut the power after `grace` seconds."""

    def remove(self, name: str) -> None:
        """Cut the power and remove everything of the machine but its volumes."""

    def runs(self, name: str) -> bool:
        """Whether the machine is on. Called every second: cheap."""

    def ended_well(self, name: str) -> bool:
        """Whether the last run ended with a shutdown that the machine itself asked for."""

    def owner(self, name: str) -> str:
        """Whose machine it is, as `Boot.owner` said; empty where none of this hypervisor has the name."""

    def addresses(self, name: str) -> list[str]:
        """The IPv4 addresses the machine has given itself."""

    def answers(self, address: str) -> bool:
        """Whether somebody can log in there."""

    def balance(self, balancer: Balancer) -> None:
        """Make its address lead to its servers. Nothing happens where it does."""

    def unbalance(self, name: str, address: str) -> None:
        """Undo `balance`. Nothing happens where that was done already."""


class LabHost:
    """Machines of systemd-nspawn: root = overlay of the image (read-only) and the volume (writable)."""

    def __init__(self) -> None:
        self._inits: dict[str, tuple[int, str]] = {}
        self._mounting = threading.Lock()  # the image and a machine that starts from it may both ask for it

    def mount_image(self, file: Path, target: Path) -> None:
        with self._mounting:
            if target.is_mount():
                return
            target.mkdir(parents=True, exist_ok=True)
            run("mount", "-t", "squashfs", "-o", "loop,ro", str(file), str(target))

    def unmount_image(self, target: Path) -> None:
        mounts.unmount_below(target)
        if target.exists():
            target.rmdir()

    def start(self, boot: Boot) -> None:
        directory = paths.machine_dir(boot.name)
        machine.clean(boot.name)
        _owner_file(boot.name).write_text(boot.owner)
        root = _mounted_root(directory / "root", boot)
        binds = [Bind(boot.volume / "data" / name, f"/var/lib/{name}") for name in DATA_DIRECTORIES]
        seed = Bind(_written_seed(directory / "seed", boot.seed), SEED, read_only=True)
        machine.start(
            Machine(
                name=boot.name,
                root=root,
                network=boot.network,
                mac=boot.mac,
                cpus=boot.cpus,
                memory=boot.memory,
                binds=(*binds, seed),
            )
        )

    def power_off(self, name: str, grace: float) -> None:
        machine.power_off(name, grace)

    def remove(self, name: str) -> None:
        machine.clean(name)
        shutil.rmtree(paths.machine_dir(name), ignore_errors=True)
        self._inits.pop(name, None)

    def runs(self, name: str) -> bool:
        """Looks at the machine's first process where it is known: looking through all control groups of a
        machine that runs a cluster is a hundred times the work."""
        if (known := self._inits.get(name)) and _start_time(known[0]) == known[1]:
            return True
        self._inits.pop(name, None)
        if machine.state(name) == "stopped":
            return False
        if (pid := machine.init_pid(name)) is not None:
            self._inits[name] = (pid, _start_time(pid))
        return True

    def ended_well(self, name: str) -> bool:
        """`lab down`, or a host that starts anew, ends machines well too, but also unplugs them."""
        return machine.exit_status(name) == 0 and name in machine.names()

    def owner(self, name: str) -> str:
        file = _owner_file(name)
        return file.read_text() if file.exists() else ""

    def addresses(self, name: str) -> list[str]:
        return network.addresses(paths.machine_namespace(name), "host0")

    def answers(self, address: str) -> bool:
        try:
            with socket.create_connection((address, _SSH), timeout=1):
                return True
        except OSError:
            return False

    def balance(self, balancer: Balancer) -> None:
        balancing.balance(balancer)

    def unbalance(self, name: str, address: str) -> None:
        balancing.unbalance(name, address)


def _owner_file(name: str) -> Path:
    return paths.machine_dir(name) / "owner"


def _mounted_root(root: Path, boot: Boot) -> Path:
    upper, work = boot.volume / "upper", boot.volume / "work"
    root.mkdir(parents=True, exist_ok=True)
    run(
        "mount",
        "-t",
        "overlay",
        "overlay",
        "-o",
        f"lowerdir={boot.image},upperdir={upper},workdir={work}",
        str(root),
    )
    return root


def _written_seed(directory: Path, seed: Mapping[str, str]) -> Path:
    """The files of cloud-init, readable by root only from the first byte on."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    for name, content in seed.items():
        file = directory / name
        file.touch(mode=0o600)
        file.write_text(content)
    return directory


def _start_time(pid: int) -> str:
    """When the process started, in clock ticks: with the number it names a process for good. Empty: gone, or
    dead and not yet collected (state Z)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
