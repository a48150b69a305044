"""A root file system that proves itself: a tree of hashes behind it, whose top is told on the kernel command line.

The kernel then checks each block as it is read, and the initial root refuses a file whose tree has another top.
Source: kernel documentation, device-mapper/verity; veritysetup(8).
"""

from __future__ import annotations

import re
from pathlib import Path

from sitewright.artifacts.inside import run
from sitewright.errors import SitewrightError

ARGUMENT = "sitewright.verity"
BLOCK = 4096
_TIMEOUT = 300
# The same file has the same tree: no salt, which hides nothing in a root that anybody may fetch, and no identity.
_SAME = ("--salt=-", "--uuid=00000000-0000-0000-0000-000000000000")
_VALUE = re.compile(r"sha256:([0-9a-f]{64})@([1-9][0-9]*)")


def append(file: Path) -> str:
    """The value of ARGUMENT for a file, behind which the tree is written: `sha256:<top>@<offset of the tree>`.

    Raises: SitewrightError, also where the file is no whole number of blocks.
    """
    offset = file.stat().st_size
    if offset % BLOCK:
        raise SitewrightError(
            f"{file} has {offset} bytes, which is no multiple of {BLOCK}", "Have mksquashfs pad it."
        )
    command = ["veritysetup", "format", f"--hash-offset={offset}", *_SAME, str(file), str(file)]
    printed = run(command, f"hashing {file}", _TIMEOUT)
    found = re.search(r"^Root hash:\s*([0-9a-f]{64})$", printed, re.MULTILINE)
    if found is None:
        raise SitewrightError(f"hashing {file}: veritysetup names no root hash:\n{printed}")
    return f"sha256:{found[1]}@{offset}"


def verify(file: Path, value: str) -> None:
    """Raises: SitewrightError where the file is not the one that `append` gave this value, in any byte it covers."""
    found = _VALUE.fullmatch(value)
    if found is None:
        raise SitewrightError(f"{ARGUMENT} is sha256:<64 hex digits>@<bytes>, not {value!r}")
    top, offset = found.groups()
    command = ["veritysetup", "verify", f"--hash-offset={offset}", str(file), str(file), top]
    try:
        run(command, f"{file} does not match {ARGUMENT}={value}", _TIMEOUT)
    except SitewrightError as error:
        hint = "Publish the image again, or declare the one that is published."
        raise SitewrightError(error.message, error.hint or hint) from error
