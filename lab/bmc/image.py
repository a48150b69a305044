"""Root file systems of nodes: fetched once, kept by digest, never used unless the digest is right."""

import fcntl
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab import paths
from lab.bmc.fetch import Fetcher, digest_of
from lab.bmc.ipxe import BootError, Script
from sitewright.artifacts import verity
from sitewright.errors import SitewrightError

ROOT_ARGUMENT = "root"
DIGEST_ARGUMENT = "sitewright.root"
KEPT = 3
SQUASHFS_MAGIC = b"hsqs"
# Offset of `bytes_used`, a 64-bit little-endian number, in the superblock.
SQUASHFS_SIZE_OFFSET = 40
SUPERBLOCK = 96


def directory() -> Path:
    return paths.state_dir() / "bmc" / "images"


def named_by(script: Script) -> tuple[str, str]:
    """URL of the root file system a script names, and its sha256. Raises BootError if it names none."""
    root = script.argument(ROOT_ARGUMENT)
    if not re.match(r"live:https?://", root):
        raise BootError(
            f"the kernel arguments hold no root=live:http://…, but {f'root={root}' if root else 'no root='}",
            "Nodes of the lab's nspawn driver boot a squashfs over HTTP only.",
        )
    digest = script.argument(DIGEST_ARGUMENT)
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise BootError(
            f"the kernel arguments hold no {DIGEST_ARGUMENT}=sha256:<64 hex digits>, but {digest!r}",
            "Without it nobody can tell whether the root file system is the one that was built.",
        )
    return root.removeprefix("live:"), digest.removeprefix("sha256:")


def fetch(url: str, digest: str, fetcher: Fetcher) -> Path:
    """The squashfs with this digest, from the cache if it is there. Raises BootError, Stopped."""
    file = directory() / f"{digest}.squashfs"
    with _locked(digest):
        # Read again at each boot: a cache that went bad must not be what a node runs from.
        if not (file.exists() and digest_of(file) == digest):
            _download(url, digest, file, fetcher)
    check_squashfs(file, url)
    file.touch()
    _forget_old()
    return file


def check_tree(file: Path, script: Script) -> None:
    """Raises BootError where the script names a hash tree, and it is not that of the file.

    The lab has no dm-verity: it checks once what a real node checks again whenever it reads.
    """
    if value := script.argument(verity.ARGUMENT):
        try:
            verity.verify(file, value)
        except SitewrightError as error:
            raise BootError(f"{error.message}; refused", error.hint) from error


def _download(url: str, digest: str, file: Path, fetcher: Fetcher) -> None:
    part = file.with_suffix(".part")
    try:
        found = fetcher.file(url, part)
        if found != digest:
            raise BootError(
                f"{url} has sha256 {found}, but {DIGEST_ARGUMENT} says {digest}; refused",
                "The image server holds other content than was declared: publish the image again.",
            )
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _locked(digest: str) -> Iterator[None]:
    """One download of an image at a time, over all BMCs."""
    directory().mkdir(parents=True, exist_ok=True)
    with (directory() / f"{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check_squashfs(file: Path, url: str) -> None:
    """Raises BootError if the file cannot be a whole squashfs."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        head = opened.read(SUPERBLOCK)
    if len(head) < SUPERBLOCK or not head.startswith(SQUASHFS_MAGIC):
        raise BootError(
            f"{url} is no squashfs: it begins with {head[:4]!r}, not with {SQUASHFS_MAGIC!r}",
            "Its digest is right, so it was built or published wrong: build the boot image again.",
        )
    (used,) = struct.unpack_from("<Q", head, SQUASHFS_SIZE_OFFSET)
    if size < used:
        raise BootError(
            f"{url} is a squashfs cut short: it holds {size} of {used} bytes",
            "Its digest is right, so it was published cut short: build the boot image again.",
        )


def _forget_old() -> None:
    """Keep the images used last. One that is mounted stays usable until it is unmounted."""

    def used(file: Path) -> float:
        with suppress(FileNotFoundError):  # another BMC forgot it meanwhile
            return file.stat().st_mtime
        return 0.0

    for old in sorted(directory().glob("*.squashfs"), key=used, reverse=True)[KEPT:]:
        old.unlink(missing_ok=True)
        old.with_suffix(".lock").unlink(missing_ok=True)
