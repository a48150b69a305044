"""Files of a run on the shared file system: whole or not there, also after a loss of power. Runs in the pod too."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILES = "files.json"  # of a checkpoint: name → sha256
# Nothing that another node could do better: the shared file system is full, read-only or lacks a file.
NO_USE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT, errno.EACCES)
ENERGY = (  # joules per unit; Cray EX nodes report the first (HPE, "pm_counters"), Intel's RAPL is the second
    ("/sys/cray/pm_counters/energy", 1.0),
    ("/sys/class/powercap/intel-rapl:0/energy_uj", 1e-6),
)


class HopelessError(Exception):
    """What is wrong, for the researcher. Another try would end alike."""


def digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def digests(directory: Path) -> dict[str, str]:
    """Of the files in a directory, the list of them left out."""
    found = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != FILES)
    return {str(path.relative_to(directory)): digest(path) for path in found}


def write(path: Path, content: Any) -> None:
    """JSON that is there as a whole or not at all, also after a loss of power."""
    scratch = path.with_name(f".{path.name}.new")
    with scratch.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def damage(checkpoint: Path) -> str:
    """Why a checkpoint cannot be continued from; empty if it can."""
    try:
        files = json.loads((checkpoint / FILES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "it was not written to its end"
    except (OSError, ValueError) as error:
        return f"{FILES}: {error}"
    for name, expected in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if digest(path) != expected:
            return f"{name} is not as it was written"
    return "" if "trainer_state.json" in files else "trainer_state.json is missing"


def newest_whole(checkpoints: Path) -> Path | None:
    """The checkpoint to continue from; the others are named in the log, with what is wrong with them."""
    found = sorted(checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    for checkpoint in reversed(found):
        reason = damage(checkpoint)
        if not reason:
            return checkpoint
        print(f"{checkpoint.name} is left out: {reason}", flush=True)
    return None


def joules() -> float | None:
    for path, unit in ENERGY:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return float(Path(path).read_text().split()[0]) * unit
    return None


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Raises: HopelessError where another pod writes into the directory."""
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HopelessError(f"{directory}: another pod trains this run ({error})") from error
        yield
