"""Runs programs, and runs them inside a root directory as a container would see it.

Mounts are made in a mount namespace that ends with the program, so nothing stays mounted, whatever is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sitewright.errors import SitewrightError

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Arguments: ROOT, number of binds, then SOURCE TARGET rw|ro per bind, then the command.
_ENTER = """
set -e
root=$1 binds=$2; shift 2
mkdir -p "$root/proc" "$root/dev" "$root/sys" "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t tmpfs tmpfs "$root/tmp"
while [ "$binds" -gt 0 ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    [ "$3" = rw ] || mount -o remount,bind,ro "$root$2"
    shift 3; binds=$((binds - 1))
done
exec chroot "$root" "$@"
"""

# The first process of a process namespace: when it ends, so does everything else there. It waits for the command, and
# is not replaced by it, for the sake of the `exit`; another one waits for the end of a pipe whose other end is the
# builder's alone, and then kills all but the first.
# A signal at the death of a parent would not do: one that dies before it was asked for never sends it.
# Arguments: descriptor of the pipe, then the command.
_WATCHED = """
pipe=$1; shift
{ cat "/proc/self/fd/$pipe"; kill -KILL -1; } >/dev/null 2>&1 </dev/null &
"$@"
exit $?
"""


@dataclass(frozen=True)
class Bind:
    """A directory of this machine, seen at `target` inside the root."""

    source: Path
    target: str
    read_only: bool = True


def run(
    command: Sequence[str],
    what: str,
    timeout: float,
    *,
    environment: Mapping[str, str] | None = None,
    text: str = "",
    inherited: Sequence[int] = (),
) -> str:
    """What the command printed, output and errors together.

    what: what it is for, the beginning of an error message; timeout: in seconds, then it and what it started
    is killed; environment: instead of this process's own; inherited: descriptors it gets.
    Raises: SitewrightError with the last lines it printed.
    """
    try:
        process = subprocess.Popen(
            command,
            env=None if environment is None else dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            pass_fds=inherited,
        )
    except FileNotFoundError as error:
        raise SitewrightError(f"{what}: no program {command[0]}", f"Install {command[0]}.") from error
    try:
        printed, _ = process.communicate(text, timeout)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise SitewrightError(f"{what}: not done after {timeout:.0f} s") from error
        raise
    if process.returncode != 0:
        last = "\n".join(printed.strip().splitlines()[-12:])
        raise SitewrightError(f"{what}: exit status {process.returncode}\n{last}")
    return printed


def run_together(
    command: Sequence[str],
    what: str,
    timeout: float,
    *,
    namespaces: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> str:
    """`run` for a command that dies with this process and takes everything it started along: nobody has to look for
    orphans of a killed build. namespaces: of unshare, beside one for processes."""
    alive, mine = os.pipe()
    separate = ["unshare", "--pid", "--fork", "--mount-proc", *namespaces]
    try:
        watched = [*separate, "/bin/sh", "-c", _WATCHED, "sh", str(alive), *command]
        return run(watched, what, timeout, environment=environment, inherited=(alive,))
    finally:
        os.close(alive)
        os.close(mine)


def run_inside(
    root: Path,
    command: Sequence[str],
    what: str,
    timeout: float,
    *,
    binds: Sequence[Bind] = (),
    environment: Mapping[str, str] | None = None,
) -> str:
    """What a command printed that ran with `root` as its /. Needs root; it has no network.

    The root has /proc, /dev, /sys and an empty /tmp; `environment` is all it gets besides PATH.
    """
    if os.geteuid() != 0:
        raise SitewrightError(f"{what}: needs root, to mount and chroot", "Run it as root.")
    arguments = [str(root), str(len(binds))]
    for bind in binds:
        arguments += [str(bind.source), bind.target, "ro" if bind.read_only else "rw"]
    return run_together(
        ["/bin/sh", "-c", _ENTER, "sh", *arguments, *command],
        what,
        timeout,
        namespaces=["--mount", "--propagation", "private", "--net"],
        environment={"PATH": SEARCH_PATH, **(environment or {})},
    )
