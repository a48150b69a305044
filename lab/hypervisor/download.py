"""Fetching an image file: resumed where a try before stopped, with progress, checked before it counts."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx

from sitewright.errors import SitewrightError

TIMEOUT = httpx.Timeout(15, connect=5)  # seconds without a byte
SQUASHFS_MAGIC = b"hsqs"

# (bytes there, bytes in all or None) → whether to go on.
Progress = Callable[[int, int | None], bool]


class Interrupted(Exception):
    """The download was told to stop; the next one goes on from here."""


def fetch(url: str, target: Path, checksum: str, progress: Progress) -> int:
    """Download `url` to `target`, which appears complete and right or not at all. Returns its size.

    checksum: SHA-512 in hexadecimal; empty: not checked.
    Raises:   SitewrightError with what went wrong, Interrupted where `progress` said so.
    """
    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        _download(url, part, progress)
    except httpx.HTTPError as problem:
        raise SitewrightError(f"{url}: {str(problem) or type(problem).__name__}") from problem
    try:
        _check(url, part, checksum)
    except SitewrightError:
        part.unlink()  # a resumed download of wrong bytes would stay wrong
        raise
    part.replace(target)
    return target.stat().st_size


def _download(url: str, part: Path, progress: Progress) -> None:
    there = part.stat().st_size if part.exists() else 0
    headers = (
        {"Range": f"bytes={there}-", "Accept-Encoding": "identity"}
        if there
        else {"Accept-Encoding": "identity"}
    )
    with httpx.stream(
        "GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True, trust_env=False
    ) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # all of it was there already
        if answer.is_error:
            raise SitewrightError(f"{url}: the server answers {answer.status_code} {answer.reason_phrase}")
        resumed = answer.status_code == httpx.codes.PARTIAL_CONTENT
        there = there if resumed else 0
        length = answer.headers.get("Content-Length")
        total = there + int(length) if length else None
        with part.open("ab" if resumed else "wb") as file:
            for chunk in answer.iter_raw():
                file.write(chunk)
                there += len(chunk)
                if not progress(there, total):
                    raise Interrupted


def _check(url: str, part: Path, checksum: str) -> None:
    with part.open("rb") as file:
        magic = file.read(len(SQUASHFS_MAGIC))
        file.seek(0)
        found = hashlib.file_digest(file, "sha512").hexdigest() if checksum else ""
    if found != checksum.lower():
        raise SitewrightError(
            f"{url}: the SHA-512 of the file is {found}, and {checksum.lower()} was expected"
        )
    if magic != SQUASHFS_MAGIC:
        raise SitewrightError(f"{url}: not a squashfs image; machines of the lab start from nothing else")
