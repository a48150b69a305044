"""Control groups of the lab, on hosts with version 1 (one tree per controller) and version 2 (one tree).

A group is named by its path below each tree, `sitewright-lab/machines/<name>`. A machine gets the same
path in every tree, so that two kubelets never share one and `kill` finds all processes of a machine,
whatever they forked and wherever in the tree they moved themselves.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sitewright.errors import SitewrightError

CPU_PERIOD_US = 100_000
V2_CONTROLLERS = ("cpu", "cpuset", "memory", "io", "pids")


@dataclass(frozen=True)
class Tree:
    """One mounted hierarchy. controllers: of version 1, () for `name=systemd`; version 2 may carry none."""

    mount: Path
    controllers: tuple[str, ...]
    unified: bool


def trees(mounts: str | None = None) -> list[Tree]:
    """The hierarchies mounted below /sys/fs/cgroup. mounts: text of /proc/self/mounts."""
    found = []
    for line in (mounts if mounts is not None else Path("/proc/self/mounts").read_text()).splitlines():
        _, target, kind, options, *_ = line.split()
        if kind not in ("cgroup", "cgroup2") or not target.startswith("/sys/fs/cgroup"):
            continue
        names = tuple(o for o in options.split(",") if o in _v1_controllers()) if kind == "cgroup" else ()
        found.append(Tree(Path(target), names, kind == "cgroup2"))
    if not found:
        raise SitewrightError(
            "no control groups are mounted below /sys/fs/cgroup",
            "Mount them as the distribution does: `mount -t cgroup2 cgroup2 /sys/fs/cgroup`.",
        )
    return found


def create(group: str) -> None:
    """Make the group in every tree, with its parents. Nothing happens where it is there already."""
    for tree in trees():
        directory = tree.mount
        for part in Path(group).parts:
            if tree.unified:
                _delegate(directory)
            directory /= part
            directory.mkdir(exist_ok=True)
            if "cpuset" in tree.controllers:
                _inherit_cpuset(directory)


def limit(group: str, cpus: float, memory: int) -> None:
    """Cap the group. cpus: cores; memory: bytes, page cache and tmpfs included."""
    for tree in trees():
        directory = tree.mount / group
        if tree.unified:
            _write_where_there(directory / "cpu.max", f"{int(cpus * CPU_PERIOD_US)} {CPU_PERIOD_US}")
            _write_where_there(directory / "memory.max", str(memory))
        if "cpu" in tree.controllers:
            (directory / "cpu.cfs_period_us").write_text(str(CPU_PERIOD_US))
            (directory / "cpu.cfs_quota_us").write_text(str(int(cpus * CPU_PERIOD_US)))
        if "memory" in tree.controllers:
            (directory / "memory.limit_in_bytes").write_text(str(memory))


def wrap(group: str, command: list[str]) -> list[str]:
    """The command, moved into the group before it starts. (A fork hook would do it too, but is unsafe in a
    program with threads, which the controller and the BMCs are.)"""
    files = [str(tree.mount / group / "cgroup.procs") for tree in trees()]
    enter = 'i=$1; shift; while [ $i -gt 0 ]; do echo 0 >"$1" || exit 97; shift; i=$((i-1)); done; exec "$@"'
    return ["/bin/sh", "-c", enter, "cgroup", str(len(files)), *files, *command]


def processes(group: str) -> set[int]:
    """Every process in the group or below, in any tree."""
    return {pid for tree in trees() for directory in _walk(tree.mount / group) for pid in _pids(directory)}


def kill(group: str, timeout: float = 20.0) -> None:
    """SIGKILL to all processes of the group and below, and wait until they are gone.
    Repeats, since a process may fork between the look and the kill."""
    deadline = time.monotonic() + timeout
    while left := processes(group):
        for pid in left:
            _signal(pid, signal.SIGKILL)
        _thaw(group)
        if time.monotonic() > deadline:
            raise SitewrightError(
                f"control group {group}: {len(left)} processes survive SIGKILL: {sorted(left)[:10]}",
                "They hang in the kernel (a dead mount, usually); `dmesg` says where. Reboot if it stays so.",
            )
        time.sleep(0.02)


def remove(group: str) -> None:
    """Remove the group and everything below from every tree. Its processes must be gone."""
    for tree in trees():
        for directory in reversed(list(_walk(tree.mount / group))):
            _rmdir(directory)


def children(group: str) -> set[str]:
    """Names of the groups directly below, in any tree."""
    return {
        entry.name
        for tree in trees()
        if (tree.mount / group).is_dir()
        for entry in (tree.mount / group).iterdir()
        if entry.is_dir()
    }


def exists(group: str) -> bool:
    return any((tree.mount / group).is_dir() for tree in trees())


def memory_used(group: str) -> int:
    """Bytes charged to the group and everything below."""
    for tree in trees():
        name = "memory.current" if tree.unified else "memory.usage_in_bytes"
        if (file := tree.mount / group / name).is_file():
            return int(file.read_text())
    return 0


def _v1_controllers() -> set[str]:
    lines = Path("/proc/cgroups").read_text().splitlines()[1:]
    return {line.split()[0] for line in lines}


def _inherit_cpuset(directory: Path) -> None:
    """A new cpuset of version 1 is empty and takes no process until it names cores and memory nodes."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not (directory / name).read_text().strip():
            (directory / name).write_text((directory.parent / name).read_text())
    (directory / "cgroup.clone_children").write_text("1")


def _delegate(directory: Path) -> None:
    """Hand the controllers of `directory` to the groups below, as far as it has them itself."""
    offered = (directory / "cgroup.controllers").read_text().split()
    for name in V2_CONTROLLERS:
        if name in offered:
            (directory / "cgroup.subtree_control").write_text(f"+{name}")


def _write_where_there(file: Path, text: str) -> None:
    if file.exists():
        file.write_text(text)


def _walk(directory: Path) -> Iterator[Path]:
    """The directory and all below, parents first; groups that vanish meanwhile are left out."""
    if not directory.is_dir():
        return
    yield directory
    try:
        below = [entry for entry in directory.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return
    for entry in below:
        yield from _walk(entry)


def _pids(directory: Path) -> list[int]:
    try:
        return [int(pid) for pid in (directory / "cgroup.procs").read_text().split() if pid != "0"]
    except OSError:  # removed meanwhile, or a threaded group, whose parent lists its processes
        return []


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _thaw(group: str) -> None:
    """runc freezes a container to end it; if it is killed meanwhile, version 1 lets nothing in there die."""
    for tree in trees():
        if "freezer" in tree.controllers:
            for directory in _walk(tree.mount / group):
                with contextlib.suppress(FileNotFoundError):
                    (directory / "freezer.state").write_text("THAWED")


def _rmdir(directory: Path) -> None:
    """A group counts as busy for some milliseconds after its last process is gone."""
    for attempt in range(50):
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if attempt == 49:
                raise
            time.sleep(0.02)
        else:
            return
