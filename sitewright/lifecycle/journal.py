"""What a roll has done, on disk: written before and after each step, so that a tool that was killed can go on.

A file is exchanged as a whole and flushed, so that it is always the state before a step or the one after it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sitewright.errors import SitewrightError

Step = Literal["planned", "drained", "off", "on", "joined", "healthy", "done"]
DIGEST = r"^sha256:[0-9a-f]{64}$"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class Entry(_Model):
    """One node. step: the last one that it has behind it.

    target:   digest of the image it is led to; boot_id: of the boot it was in before.
    cordoned: somebody else had cordoned it before, and it stays so.
    error:    why it goes no further, "" if nothing is wrong.
    """

    step: Step = "planned"
    target: str = Field(pattern=DIGEST)
    boot_id: str
    cordoned: bool
    error: str = ""


class Journal(_Model):
    """One roll of one pool.

    before: digest that each node ran before the pool was led to the target, "" for unknown.
    asked:  the image was named by the operator, and not taken from what is declared; back: it is the one before.
    reboot: nodes that ran the image already are led through a boot all the same.
    """

    version: Literal[1] = 1
    environment: str
    pool: str
    target: str = Field(pattern=DIGEST)
    before: dict[str, str]
    asked: bool = False
    back: bool = False
    reboot: bool = False
    complete: bool = False
    nodes: dict[str, Entry] = {}

    @property
    def images(self) -> set[str]:
        """Digests of the images that going on, or back, leads to."""
        return {self.target, *self.before.values()} - {""}

    @property
    def done(self) -> set[str]:
        """The nodes that this roll has led to the end."""
        return self.nodes.keys() - self.unfinished.keys()

    @property
    def unfinished(self) -> dict[str, Entry]:
        return {name: entry for name, entry in self.nodes.items() if entry.step != "done"}


class JournalFile:
    """Where the journal of a pool is. directory: `.sitewright` of the checkout."""

    def __init__(self, directory: Path, environment: str, pool: str) -> None:
        self.path = directory / "rolls" / f"{environment}-{pool}.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One roll of a pool at a time. The lock goes with a process that is killed.

        Raises: SitewrightError where another process has it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.path.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SitewrightError(
                    f"another `sitewright nodes roll` of this pool runs ({lock.name} is locked)",
                    "Wait until it ends, or stop it: the next one goes on where it was.",
                ) from None
            yield

    def read(self) -> Journal | None:
        """The last roll, or None. Raises: SitewrightError for a file that no roll wrote."""
        try:
            return Journal.model_validate_json(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else None
            what = (
                f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}" if first else str(error)
            )
            raise SitewrightError(
                f"{self.path}: no journal of a roll: {what}",
                "Look which nodes are cordoned (`kubectl get nodes`), uncordon those that a roll had cordoned, "
                "remove the file, and roll again.",
            ) from error

    def write(self, journal: Journal) -> None:
        scratch = self.path.with_suffix(".new")
        try:
            with scratch.open("w", encoding="utf-8") as file:
                file.write(journal.model_dump_json(indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self.path)
            directory = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise SitewrightError(
                f"{self.path}: {error.strerror}", "The roll stops here: it could not go on after a crash."
            ) from error
