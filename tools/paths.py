"""Where the tools live, and the digests that name them.

    ~/.cache/sitewright/tools/
        built/<module>-<digest>/    programs of one module, as built
        <digest>/bin/               all programs under their usual names; exists only when complete
        current -> <digest>/bin
        logs/<module>.log           output of the last build of that module

A module's digest covers what decides its programs (go.mod, go.sum, sources, flags); the digest of the whole
covers every module, the launchers of our own plugins, and the programs found on this machine that replace
built ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from tools.launchers import LAUNCHERS
from tools.pins import GO_ENVIRONMENT, GO_FLAGS, MODULES, Module

MANIFEST = "sitewright-tools.json"
"""In every bin directory: the digest of the pins, and for each program its version and where it was found."""

GENERATED = {"schema-embed.json", "terraform-mapping-embed.json"}
"""Files that tools/compile.py makes from a module; they follow from go.mod, so its digest leaves them out."""


def tools_root() -> Path:
    return Path.home() / ".cache" / "sitewright" / "tools"


def module_digest(module: Module) -> str:
    """Names what would be built, wherever the checkout lies; twelve hex digits."""
    files = {}
    if module.folder.is_dir():
        for path in sorted(module.folder.iterdir()):
            if path.is_file() and path.name not in GENERATED:
                files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    programs = [(program.name, program.package, program.version) for program in module.programs]
    decisive = [module.name, platform.machine(), files, GO_FLAGS, GO_ENVIRONMENT, module.ldflags, programs]
    return _sha256(decisive)[:12]


def module_store(root: Path, module: Module) -> Path:
    return root / "built" / f"{module.name}-{module_digest(module)}"


def pins_digest(modules: tuple[Module, ...] = MODULES) -> str:
    """Names what this checkout pins, whatever the machine offers."""
    return _sha256([[(module.name, module_digest(module)) for module in modules], LAUNCHERS])


def bin_digest(environ: Mapping[str, str], modules: tuple[Module, ...] = MODULES) -> str:
    """Names the bin directory: the pins, and the programs of this machine that could be used instead."""
    names = [program.name for module in modules for program in module.programs]
    identities = [
        _identity(directory / name)
        for directory in foreign_directories(environ)
        for name in [*names, "pulumi-language-python"]
    ]
    return _sha256([pins_digest(modules), [identity for identity in identities if identity]])


def foreign_directories(environ: Mapping[str, str]) -> list[Path]:
    """Directories whose programs may replace built ones, best first: SITEWRIGHT_TOOLS, then the official
    Pulumi's.

    A directory of PATH counts only if it holds both `pulumi` and `pulumi-language-python`: that is an
    official installation, and its program, language host and plugins belong together.
    """
    named = [Path(entry) for entry in _entries(environ.get("SITEWRIGHT_TOOLS", ""))]
    return list(dict.fromkeys([*named, *official_pulumi_directories(environ)]))


def official_pulumi_directories(environ: Mapping[str, str]) -> list[Path]:
    """The directory of the `pulumi` a shell would start, if it is an official installation; else empty."""
    for entry in _entries(environ.get("PATH", "")):
        directory = Path(entry)
        if not (directory / "pulumi").is_file() or is_ours(directory):
            continue
        beside = directory / "pulumi-language-python"
        return [directory] if beside.is_file() and os.access(directory / "pulumi", os.X_OK) else []
    return []


def is_ours(directory: Path) -> bool:
    """Whether a directory is a bin directory we made; it must never count as found on the machine."""
    return (directory / MANIFEST).is_file()


def _entries(path_list: str) -> Iterable[str]:
    return [entry for entry in path_list.split(os.pathsep) if entry]


def _identity(path: Path) -> list[object] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return [str(path), status.st_size, status.st_mtime_ns] if stat.S_ISREG(status.st_mode) else None


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
