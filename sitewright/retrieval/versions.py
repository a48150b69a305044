"""The versions of a collection on the shared file system, and which of them is served.

    <shared>/retrieval/<collection>/vN/     index.sqlite, manifest.json: never changed
    <shared>/retrieval/<collection>/current a link to the version that is served

Replicas look at the link once a second (modules/retrieval/retrieval_collections.py).
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sitewright.artifacts.recipes import file_digest
from sitewright.errors import SitewrightError

DIRECTORY = "retrieval"  # below the shared file system
CURRENT, MANIFEST, INDEX = "current", "manifest.json", "index.sqlite"
_NAME = re.compile(r"^v([1-9][0-9]*)$")


@dataclass(frozen=True)
class Version:
    number: int
    directory: Path

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def manifest(self) -> dict[str, Any]:
        path = self.directory / MANIFEST
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise SitewrightError(
                f"{path}: cannot be read as JSON: {error}", "Build the collection anew."
            ) from error


def place(publish_dir: Path, collection: str) -> Path:
    return publish_dir / DIRECTORY / collection


def every(collection: Path) -> list[Version]:
    """All versions, oldest first."""
    found = [(_NAME.match(path.name), path) for path in collection.glob("v*") if (path / MANIFEST).is_file()]
    return sorted(
        (Version(int(match[1]), path) for match, path in found if match), key=lambda one: one.number
    )


def current(collection: Path) -> str | None:
    """The name of the version that is served."""
    try:
        return (collection / CURRENT).readlink().name
    except OSError:
        return None


def use(collection: Path, name: str) -> None:
    """Has a version served. Readers see the old one or the new one.

    Raises: SitewrightError where there is no such version, or its index is not the one its manifest names; what is
    served stays then.
    """
    there = {version.name: version for version in every(collection)}
    if name not in there:
        raise SitewrightError(
            f"{collection}: there is no version {name!r}; there is {', '.join(there) or 'none'}",
            f"sitewright retrieval build {collection.name} makes one.",
        )
    index = there[name].directory / INDEX
    if not index.is_file() or file_digest(index) != there[name].manifest["digest"]:
        raise SitewrightError(
            f"{index}: it is not the file that was built; {current(collection) or 'nothing'} stays in use",
            "Build the collection anew.",
        )
    fresh = collection / f".{CURRENT}.{os.getpid()}"
    try:
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(name)
        fresh.replace(collection / CURRENT)
        sync(collection)
    except OSError as error:
        raise SitewrightError(
            f"{collection}: {error.strerror}; {current(collection) or 'nothing'} is in use",
            "Run it where the shared file system is mounted writable.",
        ) from error


def keep(made: Path, collection: Path) -> Version:
    """A finished directory as the next version; it is whole as soon as it has its name."""
    number = max((version.number for version in every(collection)), default=0) + 1
    for path in [*made.iterdir(), made]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        sync(path)
    target = collection / f"v{number}"
    made.rename(target)  # refuses a directory that is not empty: a version is never written over
    sync(collection)
    return Version(number, target)


def sync(path: Path) -> None:
    """What was written is on the disk, and not only on its way."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
