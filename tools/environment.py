"""The environment to run `pulumi` in: our programs, our plugins, and nothing downloaded unasked."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tools.locate import bin_dir
from tools.pins import PULUMI_KUBERNETES, PULUMI_RANDOM


def pulumi_environment(repo: Path, base_env: Mapping[str, str]) -> dict[str, str]:
    """`base_env` with what `pulumi` needs in the checkout `repo`; sets neither backend nor passphrase.

    Plugins are linked into PULUMI_HOME (the operator's own if set, ours otherwise), because Pulumi warns at
    every start about a plugin it finds on PATH. Programs of the checkout's virtual environment come first on
    PATH after ours: the provider starts ansible-playbook by name. Raises: SitewrightError where the programs
    are not built.
    """
    programs = bin_dir()
    python = repo / ".venv" / "bin" / "python"
    if not python.exists():
        python = Path(sys.executable)
    home = Path(base_env.get("PULUMI_HOME") or Path.home() / ".cache" / "sitewright" / "pulumi-home")
    link_plugins(programs, home)
    path = [str(programs), str(python.parent), *base_env.get("PATH", os.defpath).split(os.pathsep)]
    return {
        **base_env,
        "PATH": os.pathsep.join(dict.fromkeys(path)),
        "SITEWRIGHT_REPO": str(repo),
        "SITEWRIGHT_PYTHON": str(python),
        "PULUMI_HOME": str(home),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_SUPPRESS_NEO_LINK": "true",
    }


def plugin_versions() -> dict[str, str]:
    """The versions the Python SDKs ask for, by plugin name."""
    return {
        "kubernetes": PULUMI_KUBERNETES,
        "random": PULUMI_RANDOM,
        "sitewright": importlib.metadata.version("sitewright"),
    }


def link_plugins(programs: Path, home: Path) -> None:
    """Puts each plugin where Pulumi looks: `plugins/resource-<name>-v<version>/`, as a link into `programs`.

    A link that points elsewhere is replaced (the pins changed); a plugin that somebody installed there is
    left.
    """
    for name, version in plugin_versions().items():
        program = f"pulumi-resource-{name}"
        link = home / "plugins" / f"resource-{name}-v{version}" / program
        if link.exists() and not link.is_symlink():
            continue
        if link.is_symlink() and link.readlink() == programs / program:
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        new = link.with_name(f"{program}.{os.getpid()}")
        new.symlink_to(programs / program)
        new.rename(link)  # at once, so that an engine that starts now finds either
