"""One `lab up` or `lab down` at a time."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import paths


@contextmanager
def exclusive(say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Waits for another run to end. The lock is the file's, so it goes with a process that is killed."""
    file = Path("/run/lock") / f"{paths.lab_name()}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with file.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another `sitewright lab` command to end")
                fcntl.flock(lock, fcntl.LOCK_EX)
            # The run before may have removed the file that was waited for.
            if not file.exists() or os.fstat(lock.fileno()).st_ino != file.stat().st_ino:
                continue
            try:
                yield
            finally:
                file.unlink(missing_ok=True)
            return
