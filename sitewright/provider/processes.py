"""Finding and ending the processes of one run.

Ansible's workers leave the process group (ansible-core 2.19 calls setsid in each), ssh masters leave their
parent, and a task may start anything: so a run is known by three marks, of which a process loses at most two.
It descends from the run's worker (a sub-reaper, so orphans stay below it), it carries the run's mark in its
environment, or it names the run's private directory in its command line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "SITEWRIGHT_RUN_MARK"
"""Environment variable that every process of a run inherits; its value is the run's private directory."""


def descendants(pid: int) -> set[int]:
    """All processes below a process, without itself."""
    parents: dict[int, list[int]] = {}
    for child in _pids():
        if (parent := _parent(child)) is not None:
            parents.setdefault(parent, []).append(child)
    found: set[int] = set()
    todo = [pid]
    while todo:
        for child in parents.get(todo.pop(), []):
            if child not in found:
                found.add(child)
                todo.append(child)
    return found


def marked(mark: str) -> set[int]:
    """Processes that carry the run's mark, without the one that asks."""
    wanted = f"{MARK}={mark}".encode()
    found = set()
    for pid in _pids():
        if pid == os.getpid():
            continue
        if wanted in _read(pid, "environ").split(b"\0") or mark.encode() in _read(pid, "cmdline"):
            found.add(pid)
    return found


def kill_run(
    mark: str, root: int | None = None, spare: frozenset[int] = frozenset(), patience: float = 5.0
) -> set[int]:
    """SIGKILL every process of a run until none is left.

    root:    the run's worker, whose descendants belong to the run; it is killed itself unless spared.
    Returns: what would not die within `patience` seconds (only a process stuck in the kernel).
    """
    end = time.monotonic() + patience
    while True:
        left = marked(mark) | (descendants(root) | {root} if root else set())
        left = {pid for pid in left - spare - {os.getpid()} if is_alive(pid)}
        if not left or time.monotonic() > end:
            return left
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def end_ssh_masters(mark: str) -> None:
    """End the ssh connections that a finished run keeps open for later tasks; they name its control
    sockets."""
    for pid in _pids():
        if pid != os.getpid() and f"{mark}/".encode() in _read(pid, "cmdline"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    return _state(pid) not in ("", "Z", "X")


def started_at(pid: int) -> str:
    """When a process started, in clock ticks since boot: with the pid it names a process for ever. Empty if
    gone."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def _state(pid: int) -> str:
    return next(iter(_stat(pid)), "")


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if len(fields) > 1 else None


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the state on; empty if the process is gone."""
    return _read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
