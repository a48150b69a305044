"""Where the checkout is that playbooks are run from."""

from __future__ import annotations

import os
from pathlib import Path

from sitewright.errors import SitewrightError


def find_repository(start: Path) -> Path:
    """The checkout: SITEWRIGHT_REPO, or the nearest directory from `start` upwards that has playbooks/.

    Raises: SitewrightError where there is none.
    """
    if named := os.environ.get("SITEWRIGHT_REPO"):
        return Path(named).resolve()
    for directory in (start, *start.parents):
        if (directory / "playbooks").is_dir():
            return directory.resolve()
    raise SitewrightError(
        f"{start}: no directory from here upwards has playbooks/",
        "Go into the checkout, or set SITEWRIGHT_REPO.",
    )
