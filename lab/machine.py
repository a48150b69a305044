"""Machines of the lab: a root directory booted by systemd-nspawn, in a network namespace and control groups
of its own, close enough to a real one that kubelet, containerd and runc run in it (docs/adr/0004).

A machine belongs to nobody: it is detached from whoever started it, and is found again by the names of its
control group, namespace and directory. All that it has besides lies below `paths.machine_dir(name)`:
`console.log`, `exit` (status of its last end) and whatever the caller mounted there for it.
"""

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lab import cgroup, mounts, network, paths
from lab.commands import SYSTEM_PATH
from sitewright.errors import SitewrightError

State = Literal["running", "stopped"]

# What kubelet, containerd and runc call beyond nspawn's default list.
SYSTEM_CALLS = "@keyring bpf @privileged @mount @swap @module perf_event_open open_by_handle_at userfaultfd"
POWER_OFF = signal.SIGRTMIN + 4  # systemd(1): power off, running all stop jobs
REBOOT_STATUS = 133  # nspawn's exit status when the machine asked for a reboot (EXIT_ON_REBOOT=1)


@dataclass(frozen=True)
class Bind:
    """A directory or file of the host, seen by the machine."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Machine:
    """What to boot. root: a mounted, writable root file system; memory: bytes; init_args: what a kernel
    command line would be: systemd and cloud-init read it from /proc/1/cmdline."""

    name: str
    root: Path
    network: str
    mac: str
    cpus: float
    memory: int
    binds: tuple[Bind, ...] = ()
    init_args: tuple[str, ...] = ()
    exit_on_reboot: bool = False  # stop with REBOOT_STATUS instead of booting the same root again

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", self.name):
            raise SitewrightError(f"machine name {self.name!r} is not a DNS label")


def start(machine: Machine) -> None:
    """Power on. Returns once the machine's process runs; what it prints goes to its console.log.
    Raises where it already runs, or ends at once."""
    switch_on(machine.name, lambda: _boot(machine))


def switch_on(name: str, boot: Callable[[], None]) -> None:
    """Boot a machine that is off; nothing of it is left where that fails. Raises where it already runs."""
    with locked(name):
        if state(name) == "running":
            raise SitewrightError(f"machine {name} already runs")
        try:
            boot()
        except BaseException:
            cut(name)
            raise


def power_off(name: str, grace: float = 30.0) -> None:
    """Ask the machine to shut down; cut its power where it has not done so after `grace` seconds."""
    deadline = time.monotonic() + grace
    if (init := init_pid(name)) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(init, POWER_OFF)
        while state(name) == "running" and time.monotonic() < deadline:
            time.sleep(0.05)
    kill(name)


def kill(name: str) -> None:
    """Power cut: SIGKILL to everything in the machine, its network unplugged. Nothing happens where it is
    off. Its root stays mounted: what is on its disks outlives a power cut (see `clean`)."""
    with locked(name):
        cut(name)


def clean(name: str) -> None:
    """Power cut, and unmount whatever is mounted below the machine's directory. Files stay."""
    with locked(name):
        cut(name)
        mounts.unmount_below(paths.machine_dir(name))


def state(name: str) -> State:
    return "running" if cgroup.processes(paths.machine_cgroup(name)) else "stopped"


def exit_status(name: str) -> int | None:
    """How the last run ended: 0 powered off, REBOOT_STATUS wants to boot again, None killed or running."""
    try:
        return int(exit_file(name).read_text())
    except (FileNotFoundError, ValueError):
        return None


def forget_exit(name: str) -> None:
    """From now on the machine counts as one that lost its power, however its last run ended."""
    exit_file(name).unlink(missing_ok=True)


def names() -> list[str]:
    """Machines with a control group or a namespace: running, or not cleaned up."""
    prefix = f"{paths.lab_name()}-"
    plugged = {name.removeprefix(prefix) for name in network.namespaces() if name.startswith(prefix)}
    return sorted(cgroup.children(f"{paths.lab_name()}/machines") | plugged)


def leftovers() -> list[str]:
    """Machines that do not run but still have a control group, a namespace or a mount."""
    mounted = {
        path.relative_to(paths.machines_dir()).parts[0]
        for path in mounts.below(paths.machines_dir())
        if path != paths.machines_dir()
    }
    return [name for name in sorted(mounted | set(names())) if state(name) == "stopped"]


def console(name: str) -> Path:
    return paths.machine_dir(name) / "console.log"


def init_pid(name: str) -> int | None:
    """The machine's process 1, by its number on the host."""
    for pid in cgroup.processes(paths.machine_cgroup(name)):
        # A pod has a process 1 too, but one namespace deeper.
        if len(numbers := _namespace_pids(pid)) == 2 and numbers[1] == 1:
            return pid
    return None


def started_at(pid: int) -> float | None:
    """When a process was started, in seconds since the host booted; None when it is gone."""
    try:
        after_the_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(after_the_name[19]) / os.sysconf("SC_CLK_TCK")


def enter(name: str, *command: str) -> list[str]:
    """The command line that runs `command` inside the machine, for looking around and for tests."""
    if (pid := init_pid(name)) is None:
        raise SitewrightError(
            f"machine {name} is off", f"`sitewright nodes power lab {name} on` starts a node."
        )
    return ["nsenter", f"--target={pid}", "--all", "--root", "--wd", "--", *command]


def spawn(
    name: str,
    command: list[str],
    output: Path,
    environment: dict[str, str] | None = None,
    start_in: Path = Path("/"),
) -> None:
    """Start the machine's program in its control group, detached: a session of its own, handed to process 1,
    with PATH and what is given for an environment. The shell around it notes how it ended; a power cut takes the
    shell too, and notes nothing."""
    ended = exit_file(name)
    ended.unlink(missing_ok=True)
    noting = [
        "/bin/sh",
        "-c",
        'f=$1; shift; "$@"; echo $? >"$f.new"; mv "$f.new" "$f"',
        "machine",
        str(ended),
    ]
    with output.open("ab") as log:
        subprocess.run(
            ["setsid", "--fork", *cgroup.wrap(paths.machine_cgroup(name), [*noting, *command])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": SYSTEM_PATH, **(environment or {})},
            cwd=start_in,
            check=True,
        )


def cut(name: str) -> None:
    """Power cut, for a caller that holds the lock."""
    group = paths.machine_cgroup(name)
    cgroup.kill(group)
    network.disconnect(name)
    cgroup.remove(group)


def exit_file(name: str) -> Path:
    return paths.machine_dir(name) / "exit"


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """One start or stop of a machine at a time, over all processes of the lab."""
    directory = paths.machine_dir(name)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _boot(machine: Machine) -> None:
    group = paths.machine_cgroup(machine.name)
    cgroup.create(group)
    cgroup.limit(group, machine.cpus, machine.memory)
    namespace = network.connect(machine.name, machine.network, machine.mac)
    environment = {"EXIT_ON_REBOOT": "1"} if machine.exit_on_reboot else {}
    spawn(machine.name, _nspawn(machine, namespace), console(machine.name), environment)
    _wait_for_init(machine.name)


def _nspawn(machine: Machine, namespace: Path) -> list[str]:
    options = [
        "--quiet",
        "--register=no",  # no machined, and nothing of systemd, is needed on the host
        "--keep-unit",
        "--boot",
        f"--directory={machine.root}",
        f"--machine={machine.name}",
        f"--hostname={machine.name}",
        f"--uuid={uuid.uuid5(uuid.NAMESPACE_DNS, machine.name)}",
        f"--network-namespace-path={namespace}",
        "--capability=all",
        f"--system-call-filter={SYSTEM_CALLS}",
        "--bind=/dev/kmsg",  # kubelet watches it for the out-of-memory killer
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=read-only",
    ]
    # Entered before nspawn starts as well: it mounts /sys, which shows the interfaces of whoever mounts it.
    entered = ["nsenter", f"--net={namespace}", "systemd-nspawn"]
    return [*entered, *options, *map(_bind, machine.binds), "--", *machine.init_args]


def _bind(bind: Bind) -> str:
    option = "--bind-ro" if bind.read_only else "--bind"
    return f"{option}={str(bind.source).replace(':', chr(92) + ':')}:{bind.target}"


def _wait_for_init(name: str, timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while init_pid(name) is None:
        if exit_file(name).exists() or time.monotonic() > deadline:
            last = console(name).read_text(errors="replace").strip().splitlines()[-3:]
            raise SitewrightError(
                f"machine {name} does not start: {' | '.join(last)}", f"See {console(name)}."
            )
        time.sleep(0.01)


def _namespace_pids(pid: int) -> list[int]:
    """The process's number in each of its pid namespaces, the host's first."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return []
    return next(
        ([int(n) for n in line.split()[1:]] for line in status.splitlines() if line.startswith("NSpid:")), []
    )
