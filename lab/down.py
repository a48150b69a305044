"""`sitewright lab down`: removes what it finds, not what it remembers, so it also cleans up after a SIGKILL.

Everything of the lab carries its name: control groups, network namespaces, mounts and loop devices below its
directories. Each kind is listed from the kernel, removed, and listed again at the end.
"""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import cgroup, emulator, machine, mounts, network, paths, supervisor
from lab.lock import exclusive
from lab.namespace import wait_until
from lab.stages import Stages
from lab.up import MARKER, is_own
from sitewright.errors import SitewrightError

STAGES = ["services", "machines", "network", "mounts and loop devices", "control groups", "files"]
NSPAWN = Path("/run/systemd/nspawn")


def down(stages: Stages, keep: bool = False) -> None:
    """Take the lab down. keep: leave its files, so that the next `lab up` goes on with them.
    Raises SitewrightError with all that is still there, if anything is."""
    if not may_remove(paths.state_dir()):
        raise SitewrightError(
            f"{paths.state_dir()} is not the directory of the lab {paths.lab_name()!r}: nothing was touched",
            "Check `lab.state_dir` of the site file; `--state-dir` names another directory.",
        )
    stages.plan(STAGES if not keep else STAGES[:-1])
    with exclusive():
        # First what would start machines again.
        with stages.stage("services"):
            if keep:
                supervisor.stop(timeout=15)
            cgroup.kill(paths.services_cgroup())
        with stages.stage("machines") as stage:
            _machines(stage.say, grace=20 if keep else 0)
        with stages.stage("network"):
            for name in network.lab_namespaces():
                _end(network.occupants(name))
                network.delete_namespace(name)
        with stages.stage("mounts and loop devices"):
            mounts.unmount_below(paths.state_dir())
            for directory in (paths.state_dir(), paths.cache_dir()):
                mounts.detach_loops(directory)
        with stages.stage("control groups"):
            cgroup.kill(paths.lab_name())
            cgroup.remove(paths.lab_name())
        if not keep:
            with stages.stage("files"):
                _remove_files(paths.state_dir())
    # What was in use to the last moment is gone a moment later.
    if not wait_until(lambda: not leftovers(keep), timeout=5):
        left = leftovers(keep)
        raise SitewrightError(
            f"still there: {'; '.join(left)}",
            "Something outside the lab uses it (`fuser -vm <mount>` names who); end that and run this again.",
        )


def may_remove(state: Path) -> bool:
    """An absent or empty directory, or the lab's own."""
    return is_own(state) or not state.is_dir() or not any(state.iterdir())


def leftovers(keep: bool = False) -> list[str]:
    """What of the lab is still on this machine, one phrase per thing."""
    state = paths.state_dir()
    found = [f"process {pid}" for pid in sorted(cgroup.processes(paths.lab_name()))]
    found += [f"network namespace {name}" for name in network.lab_namespaces()]
    found += [f"mount {path}" for path in mounts.below(state)]
    found += [f"loop device {name}" for name in mounts.loops(state)]
    found += [f"control group {paths.lab_name()}"] if cgroup.exists(paths.lab_name()) else []
    found += [f"directory {state}"] if not keep and is_own(state) else []
    return found


def _machines(say: Callable[[str], None], grace: float) -> None:
    """grace: seconds that a machine may take to shut down before its power is cut."""
    names = sorted({*machine.names(), *machine.leftovers()})
    say(", ".join(names))
    with ThreadPoolExecutor(max_workers=8) as pool:
        for _ in pool.map(lambda name: _remove_machine(name, grace), names):
            pass  # raises what the thread raised


def _remove_machine(name: str, grace: float) -> None:
    if grace:
        (emulator if emulator.init_pid(name) else machine).power_off(name, grace)
        machine.forget_exit(name)  # it did not end by itself: the next `lab up` starts it again
    machine.clean(name)
    with contextlib.suppress(OSError):
        (NSPAWN / "propagate" / name).rmdir()


def _end(processes: set[int]) -> None:
    for pid in processes - {os.getpid()}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _remove_files(state: Path) -> None:
    if not state.is_dir():
        return
    if still := mounts.below(state):
        raise SitewrightError(f"{still[0]} is still mounted, so nothing below {state} is removed")
    # The marker goes last: a removal that is interrupted is taken up by the next `lab down`.
    for entry in state.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != MARKER:
            entry.unlink()
    shutil.rmtree(state)
