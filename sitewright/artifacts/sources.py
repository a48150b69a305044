"""One digest over the content of files and directories: what is built from them is never built twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from sitewright.errors import SitewrightError


def path_digest(paths: Iterable[Path | str], texts: Iterable[str]) -> str:
    """sha256 in hex over relative names and contents. paths: files, or directories, which are read whole.

    Raises: SitewrightError for a path that is missing.
    """
    digest = hashlib.sha256()
    for text in texts:
        digest.update(b"text\0" + text.encode() + b"\0")
    for root in map(Path, paths):
        files = sorted(_files(root)) if root.is_dir() else [root]
        for file in files:
            digest.update(f"file\0{file.relative_to(root.parent)}\0".encode())
            try:
                with file.open("rb") as content:
                    digest.update(hashlib.file_digest(content, "sha256").digest())
            except OSError as error:
                raise SitewrightError(f"cannot read {file}: {error.strerror}") from error
    return digest.hexdigest()


def _files(directory: Path) -> list[Path]:
    """Without what Python leaves behind when it runs a file of them."""
    return [p for p in directory.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
