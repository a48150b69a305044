"""Where a program is. Fast (no program is started), and says what to run when the tools are not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

from sitewright.errors import SitewrightError
from tools.paths import MANIFEST, bin_digest, pins_digest, tools_root


def bin_dir() -> Path:
    """The directory that holds every pinned program under its usual name.

    A process with another environment than the builder's (a service of the lab, say, without SITEWRIGHT_TOOLS)
    gets the current directory, if that was made from the same pins.
    Raises: SitewrightError where the programs of this checkout's pins are not built yet.
    """
    directory = tools_root() / bin_digest(os.environ) / "bin"
    if not directory.is_dir():
        current = (tools_root() / "current").resolve()
        if _pins_of(current) == pins_digest():
            return current
        raise SitewrightError(
            f"{directory}: the programs pinned in tools/pins.py are not built on this machine",
            "Run `make tools` (python -m tools build); an interrupted build goes on where it was.",
        )
    return directory


def _pins_of(directory: Path) -> str | None:
    manifest = directory / MANIFEST
    return json.loads(manifest.read_text()).get("pins") if manifest.is_file() else None


def tool(name: str) -> Path:
    """Path of one program, for example `tool("kubelet")` or `tool("cni/bridge")`."""
    path = bin_dir() / name
    if not path.is_file():
        known = sorted(str(entry.relative_to(path.parent)) for entry in path.parent.glob("*"))
        raise SitewrightError(
            f"{path}: no such program", f"tools/pins.py lists the programs; here are {', '.join(known)}."
        )
    return path
