"""Which version of each collection is served: the one `current` names, if it is whole, and else the one before.

    <collection>/vN/index.sqlite, manifest.json    a version, which never changes
    <collection>/current -> vN                     the one that is served; changed by one rename

A request keeps the version it began with; an old one is closed when its last request has ended.
"""

import hashlib
import json
import logging
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules.retrieval.retrieval_embeddings import Embedder
from modules.retrieval.retrieval_index import Index

CURRENT, MANIFEST, INDEX = "current", "manifest.json", "index.sqlite"
log = logging.getLogger("sitewright.retrieval")


class Unusable(Exception):
    """Why a version is not served."""


@dataclass(frozen=True)
class Version:
    """name: vN; digest: SHA-256 of its index."""

    name: str
    digest: str
    index: Index


class Collection:
    """The served version of one collection. `look` is called again and again; `version` never waits for it."""

    def __init__(self, directory: Path, embedder: Embedder) -> None:
        self._directory, self._embedder = directory, embedder
        self._tried = ""
        self.version: Version | None = None
        self.problem = ""

    def look(self) -> None:
        """Follows `current`. What is there and cannot be used is said once, and the version before goes on."""
        try:
            name = (self._directory / CURRENT).readlink().name
        except OSError:
            self.problem = self.problem or "no version is in use yet"
            return
        if name == self._tried:
            return
        self._tried = name
        try:
            self.version, self.problem = self._opened(name), ""
            log.warning("%s: %s is served", self._directory.name, name)
        except (OSError, ValueError, KeyError, sqlite3.Error, Unusable) as error:
            self.problem = f"{name} cannot be used: {error}"
            before = f"{self.version.name} goes on" if self.version else "nothing is served"
            log.error("%s: %s; %s", self._directory.name, self.problem, before)

    @property
    def state(self) -> dict[str, Any]:
        found = self.version
        served = {"version": found.name, "digest": found.digest} if found else {"version": None}
        return {**served, **({"problem": self.problem} if self.problem else {})}

    def _opened(self, name: str) -> Version:
        directory = self._directory / name
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        if manifest["embedding"] != self._embedder.version:
            raise Unusable(
                f"made with {manifest['embedding']}, here is {self._embedder.version}: build it anew"
            )
        with (directory / INDEX).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != manifest["digest"]:
            raise Unusable(f"{INDEX} has sha256 {found[:12]}…, its manifest says {manifest['digest'][:12]}…")
        return Version(name, found, Index(directory / INDEX, self._embedder))
