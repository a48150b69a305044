"""Debian root file systems, made by mmdebstrap: what images of VMs, of nodes and of containers start from."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from sitewright.artifacts.inside import SEARCH_PATH, run, run_together
from sitewright.errors import SitewrightError

TIMEOUT = 1200  # seconds; 20 to 90 on a near mirror
NO_RECOMMENDS = 'APT::Install-Recommends "false"'


def make_root(
    root: Path,
    release: str,
    packages: Sequence[str],
    variant: str,
    *,
    apt_options: Sequence[str] = (),
    exclude: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> str:
    """A Debian in `root`, which is absent or empty, from the mirrors of this host; what mmdebstrap said. Needs root.

    release: code name; variant: of mmdebstrap, how much there is besides `packages`.
    apt_options: they hold for the build and stay in the root. Recommended packages are left out of the build
    in any case; NO_RECOMMENDS here says so to the apt inside as well.
    exclude: globs of absolute paths that dpkg does not unpack, now or later.
    environment: for the packages' scripts, beyond this process's own. With SOURCE_DATE_EPOCH mmdebstrap leaves out
    what differs from one build to the next. TMPDIR may be any directory: mmdebstrap hides it from what runs inside.
    Raises: SitewrightError with the last lines of mmdebstrap. A root that failed is the caller's to remove.
    """
    what = f"Debian {release} root in {root} with {', '.join(packages)}"
    known = {**_environment(), **(environment or {})}
    _require(what, known["PATH"])
    options = [
        "--verbose",
        "--mode=root",
        f"--variant={variant}",
        *(f"--aptopt={option}" for option in apt_options),
        *(f"--dpkgopt=path-exclude={glob}" for glob in exclude),
        f"--include={','.join(packages)}",
    ]
    command = ["mmdebstrap", *options, release, str(root), *mirrors(release)]
    try:
        return run_together(command, what, timeout, environment=known)
    except SitewrightError as error:
        hint = "See with `apt-get update` whether this host reaches its mirrors."
        raise SitewrightError(error.message, error.hint or hint) from error


def mirrors(release: str, targets: str | None = None) -> list[str]:
    """apt source lines for the release, from the mirrors that this host itself uses for Debian's main.

    targets: what `apt-get indextargets` prints, one `URI release component` per line.
    """
    if targets is None:
        fields = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
        command = ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"]
        targets = run(command, "mirrors of this host", 60, environment=_environment())
    host, lines = _host_release(), []
    for line in targets.splitlines():
        words = line.split()
        if len(words) != 3:  # a warning of apt, or a source without components
            continue
        uri, suite, component = words
        if component == "main" and suite in (host, f"{host}-updates", f"{host}-security"):
            lines.append(f"deb {uri} {suite.replace(host, release, 1)} main")
    if not any(line.endswith(f" {release} main") for line in lines):
        raise SitewrightError(
            f"apt on this host has no source for {host} main, so there is no mirror to build {release} from",
            "Add Debian's main to /etc/apt/sources.list.d and run `apt-get update`.",
        )
    return list(dict.fromkeys(lines))


def _require(what: str, path: str) -> None:
    if os.geteuid() != 0:
        raise SitewrightError(f"{what}: needs root, to mount and chroot", "Run it as root.")
    if shutil.which("mmdebstrap", path=path) is None:
        raise SitewrightError(f"{what}: no program mmdebstrap", "Install the package mmdebstrap.")


def _environment() -> dict[str, str]:
    # A shell of root that was made by `su` does not look into the directories of sbin.
    path = ":".join(filter(None, (os.environ.get("PATH"), SEARCH_PATH)))
    return {**os.environ, "PATH": path}


def _host_release() -> str:
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    return shlex.split(next(line for line in lines if line.startswith("VERSION_CODENAME="))[17:])[0]
