"""Memory while something runs: of the lab from its control group, of a command from its process tree."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from lab import cgroup

PAGE = os.sysconf("SC_PAGE_SIZE")
GIB = 2**30


def group_memory(group: str) -> int:
    """Bytes charged to a control group and all below, without pages of files: the kernel drops those as soon
    as somebody needs the memory. Files in a tmpfs, such as the roots of diskless nodes, are included.
    Returns: 0 where there is no such group."""
    for tree in cgroup.trees():
        prefix = "" if tree.unified else "total_"
        usage = tree.mount / group / ("memory.current" if tree.unified else "memory.usage_in_bytes")
        if usage.is_file():
            stat = statistics((usage.parent / "memory.stat").read_text())
            return int(usage.read_text()) - stat[f"{prefix}active_file"] - stat[f"{prefix}inactive_file"]
    return 0


def group_cpu_seconds(group: str) -> float:
    """Processor time that a control group and all below have used since it was made."""
    for tree in cgroup.trees():
        directory = tree.mount / group
        if "cpuacct" in tree.controllers and directory.is_dir():
            return int((directory / "cpuacct.usage").read_text()) / 1e9
        if tree.unified and (file := directory / "cpu.stat").is_file():
            return statistics(file.read_text())["usage_usec"] / 1e6
    return 0.0


def statistics(text: str) -> dict[str, int]:
    """A file of `name number` lines, such as memory.stat."""
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


def tree_memory(root: int) -> int:
    """Resident bytes of a process and all its descendants, summed: pages that they share count for each."""
    parents: dict[int, int] = {}
    resident: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        parents[int(entry.name)], resident[int(entry.name)] = int(fields[1]), int(fields[21]) * PAGE
    return sum(size for pid, size in resident.items() if _descends(pid, root, parents))


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid != root and pid in parents:
        pid = parents[pid]
    return pid == root


class Sampler:
    """Reads a measure several times a second while entered, and knows the highest value of any period."""

    def __init__(self, measure: Callable[[], int], every: float = 0.5) -> None:
        self.samples: list[tuple[float, int]] = []
        self._measure = measure
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def peak(self, begin: float = 0.0, end: float = float("inf")) -> int:
        """Between two times of `time.monotonic`. A period shorter than the distance of two samples has the
        value of the nearest one."""
        if not self.samples:
            return 0
        inside = [value for at, value in self.samples if begin <= at <= end]
        return max(inside) if inside else min(self.samples, key=lambda sample: abs(sample[0] - end))[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self.samples.append((time.monotonic(), self._measure()))
            if self._over.wait(self._every):
                return
