"""The private directory of one run: in memory only, for its owner only, gone afterwards.

It holds what Ansible must read from a file (the extra variables), the socket its events come through, ssh
control sockets and temporary files. Nothing in it ever reaches a disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from sitewright.errors import SitewrightError
from sitewright.provider.processes import started_at

_CANDIDATES = ("/dev/shm", "/run")
_PREFIX = "sitewright-run-"
_IN_MEMORY = ("tmpfs", "ramfs")


def create() -> Path:
    """A new directory, mode 0700, on a file system that lives in memory.

    Its name starts with the owner's pid and start time, so that `sweep` can tell what a killed process left
    behind.
    Raises: SitewrightError where no such file system can be written.
    """
    types = _mount_types()
    for candidate in _CANDIDATES:
        if types.get(candidate) in _IN_MEMORY and os.access(candidate, os.W_OK):
            sweep(Path(candidate))
            owner = f"{_PREFIX}{os.getpid()}-{started_at(os.getpid())}-"
            return Path(tempfile.mkdtemp(prefix=owner, dir=candidate))
    raise SitewrightError(
        f"none of {', '.join(_CANDIDATES)} is a writable tmpfs, so secrets of a playbook would reach a disk",
        "Mount one: `mount -t tmpfs -o mode=1777 tmpfs /dev/shm`.",
    )


def remove(directory: Path) -> None:
    """Remove it, whatever is in it; a second call does nothing."""
    shutil.rmtree(directory, ignore_errors=True)


def sweep(parent: Path) -> list[Path]:
    """Remove the directories whose owner does not live any more; returns them."""
    removed = []
    for directory in parent.glob(f"{_PREFIX}*"):
        pid, _, rest = directory.name.removeprefix(_PREFIX).partition("-")
        started = rest.partition("-")[0]
        with contextlib.suppress(FileNotFoundError):  # another run may be removing it right now
            if directory.stat().st_uid == os.getuid() and pid.isdigit() and started_at(int(pid)) != started:
                remove(directory)
                removed.append(directory)
    return removed


def _mount_types() -> dict[str, str]:
    """File system type by mount point; the last mount on a point counts. See proc(5), mountinfo."""
    types = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        types[before.split()[4]] = after.split()[0]
    return types
