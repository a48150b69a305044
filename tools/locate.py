"""Where a program is. Fast (no program is started), and says what to run when the tools are not there."""

from __future__ import annotations

import os
from pathlib import Path

from sitewright.errors import SitewrightError
from tools.paths import bin_digest, tools_root


def bin_dir() -> Path:
    """The directory that holds every pinned program under its usual name.

    Raises: SitewrightError where the programs of this checkout's pins are not built yet.
    """
    directory = tools_root() / bin_digest(os.environ) / "bin"
    if not directory.is_dir():
        raise SitewrightError(
            f"{directory}: the programs pinned in tools/pins.py are not built on this machine",
            "Run `make tools` (python -m tools build); an interrupted build goes on where it was.",
        )
    return directory


def tool(name: str) -> Path:
    """Path of one program, for example `tool("kubelet")` or `tool("cni/bridge")`."""
    path = bin_dir() / name
    if not path.is_file():
        known = sorted(str(entry.relative_to(path.parent)) for entry in path.parent.glob("*"))
        raise SitewrightError(
            f"{path}: no such program", f"tools/pins.py lists the programs; here are {', '.join(known)}."
        )
    return path
