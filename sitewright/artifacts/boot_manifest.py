"""The manifest of a boot image: what is in it, by digest. It is written last, and its digest names the image."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sitewright.artifacts import verity
from sitewright.artifacts.boot_images import MANIFEST
from sitewright.artifacts.boot_recipe import BootRecipe
from sitewright.artifacts.recipes import file_digest
from sitewright.artifacts.sbom import Package, inventory, spdx
from sitewright.errors import SitewrightError

ROOT, KERNEL, INITRD, SBOM = "rootfs.squashfs", "vmlinuz", "initramfs.img", "sbom.spdx.json"
PROGRAMS = ("usr/local/bin", "usr/local/sbin", "opt/cni/bin")  # where the layers put what is in no package
_UNITS = {"Mi": 2**20, "Gi": 2**30}


def write(
    out: Path, name: str, recipe: BootRecipe, sources: str, kernel: str, installed: str, programs: Path
) -> dict[str, Any]:
    """Write the hash tree behind the root, the bill of materials and the manifest in `out`; the manifest.

    installed: what the packages' query printed (sbom.DPKG_QUERY); programs: the root that was packed.
    Raises: SitewrightError where the root is larger than the recipe allows.
    """
    _hold_to_budget(out / ROOT, recipe)
    proof = verity.append(out / ROOT)
    packages = inventory(installed)
    bill = spdx(name, recipe.date, recipe.distribution, recipe.release, packages, dict(_programs(programs)))
    _write(out / SBOM, bill)
    files = {file: file_digest(out / file) for file in (ROOT, KERNEL, INITRD, SBOM)}
    manifest = {
        "name": name,
        "digest": image_digest(files),
        "sources": f"sha256:{sources}",
        "date": recipe.date.isoformat(),
        "kernel": kernel,
        "kernel_arguments": [f"{verity.ARGUMENT}={proof}", *recipe.kernel_arguments],
        "files": files,
        "sizes": {file: (out / file).stat().st_size for file in files},
        "packages": _lines(packages),
    }
    _write(out / MANIFEST, manifest)
    return manifest


def image_digest(files: dict[str, str]) -> str:
    """The name of an image. files: sha256 in hex by file name."""
    return "sha256:" + hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _hold_to_budget(root: Path, recipe: BootRecipe) -> None:
    found = re.fullmatch(r"(\d+)([MG]i)", recipe.size_budget)
    assert found
    size, allowed = root.stat().st_size, int(found[1]) * _UNITS[found[2]]
    if size > allowed:
        raise SitewrightError(
            f"{ROOT} has {size / 2**20:.0f} Mi, the recipe allows {recipe.size_budget}",
            "Take packages out, or raise size_budget: every node holds the root in its memory.",
        )


def _programs(root: Path) -> Iterable[tuple[str, str]]:
    for directory in PROGRAMS:
        for file in sorted((root / directory).glob("*")):
            if file.is_file() and not file.is_symlink():
                yield f"/{directory}/{file.name}", file_digest(file)


def _lines(packages: Iterable[Package]) -> list[str]:
    return [f"{package.name}={package.version}" for package in packages]


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    path.chmod(0o644)
