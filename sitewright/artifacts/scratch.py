"""Where caches are built: one builder at a time, and nothing half-made stays."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from sitewright.errors import SitewrightError


@contextlib.contextmanager
def scratch_of(cache: Path) -> Iterator[Path]:
    """An empty directory on the file system of `cache`, for one builder; the next one waits.

    It is removed at the end. What is finished is renamed out of it. A killed build leaves it for the next
    one to clear: `<cache>/.building`, and `<cache>/lock`, whose lock the kernel drops.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        scratch = cache / ".building"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def require_space(directory: Path, gib: float, what: str) -> None:
    """Nothing, when the file system of `directory` (which may not exist yet) has that much room.

    Raises: SitewrightError with how much is free and how much is wanted.
    """
    there = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(there).free / 2**30
    if free < gib:
        raise SitewrightError(
            f"{what}: {directory} has {free:.1f} GiB free, {gib:.1f} GiB are needed",
            "Free some space there, or remove what is no longer used below ~/.cache/sitewright.",
        )


def keep(made: Path, place: Path) -> None:
    """Moves what is finished to its place in the cache; what lay there was incomplete."""
    shutil.rmtree(place, ignore_errors=True)
    made.rename(place)
