"""The VM image: a Debian root built from images/vm/<name>/recipe.yaml, as a squashfs with its checksum.

An image is kept in the cache under the digest of everything that goes into it, so a recipe that did not
change is not built again, and a lab that was taken down starts warm.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml import YAML

from lab import paths
from lab.commands import run
from sitewright.artifacts.debian import make_root
from sitewright.errors import SitewrightError

BUILDER = "1"  # part of the digest: raise it when the code below changes what an image contains
BUILD_SECONDS = 1200


class Recipe(BaseModel):
    """images/vm/<name>/recipe.yaml; the comments there say what each list is for."""

    model_config = ConfigDict(extra="forbid")

    suite: str = Field(description="of Debian")
    packages: list[str]
    enable: list[str] = []
    mask: list[str] = []
    remove: list[str] = Field([], description="globs below the root")
    check: list[str] = Field([], description="shell commands run inside the finished root")


def vm_image(name: str) -> Path:
    """The image's squashfs in the cache, built if it is not there. SHA512SUMS lies beside it."""
    directory = cached(name)
    if not (directory / "SHA512SUMS").is_file():
        with _building(directory) as scratch:
            if scratch is not None:
                _build(name, scratch)
    return directory / f"{name}.squashfs"


def cached(name: str) -> Path:
    """Where the image is, or would be, in the cache."""
    return paths.cache_dir() / "images" / digest(name)


def digest(name: str) -> str:
    """Of the recipe, the files it ships and the builder: what decides whether an image is built again."""
    recipe = _recipe_dir(name)
    parts = hashlib.sha256(f"{BUILDER} {os.uname().machine}\n".encode())
    for file in sorted(path for top in (recipe, _common()) for path in top.rglob("*") if path.is_file()):
        parts.update(f"{file.relative_to(paths.REPOSITORY)} {file.stat().st_mode & 0o777:o}\n".encode())
        parts.update(hashlib.sha256(file.read_bytes()).digest())
    return parts.hexdigest()[:32]


def _build(name: str, scratch: Path) -> None:
    recipe, root = _load(name), scratch / "root"
    make_root(root, recipe.suite, recipe.packages, "minbase", timeout=BUILD_SECONDS)
    for pattern in recipe.remove:
        _remove(root, pattern)
    shutil.copytree(_recipe_dir(name) / "files", root, dirs_exist_ok=True)
    for unit in _common().glob("*.service"):
        shutil.copy(unit, root / "etc/systemd/system" / unit.name)
    (root / "etc/machine-id").write_text("")  # empty: each machine gets its own at first boot
    run("systemctl", f"--root={root}", "enable", *recipe.enable)
    run("systemctl", f"--root={root}", "mask", *recipe.mask)
    for command in recipe.check:
        run("chroot", str(root), "/bin/sh", "-ec", command)
    _pack(root, scratch / f"{name}.squashfs")


def _pack(root: Path, target: Path) -> None:
    options = ["-comp", "zstd", "-quiet", "-no-progress"]
    run("mksquashfs", str(root), str(target), *options, timeout=BUILD_SECONDS)
    shutil.rmtree(root)
    with target.open("rb") as image:
        checksum = hashlib.file_digest(image, "sha512").hexdigest()
    (target.parent / "SHA512SUMS").write_text(f"{checksum}  {target.name}\n")


@contextmanager
def _building(directory: Path) -> Iterator[Path | None]:
    """A scratch directory that becomes `directory` at the end; None if another run made it meanwhile.
    What an interrupted build left is removed first."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = directory.with_name(f".{directory.name}.building")
    with (directory.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (directory / "SHA512SUMS").is_file():
            yield None
            return
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        yield scratch
        scratch.rename(directory)


def _load(name: str) -> Recipe:
    return Recipe.model_validate(YAML(typ="safe").load(_recipe_dir(name) / "recipe.yaml"))


def _recipe_dir(name: str) -> Path:
    directory = paths.REPOSITORY / "images" / "vm" / name
    if not (directory / "recipe.yaml").is_file():
        known = sorted(path.parent.name for path in directory.parent.glob("*/recipe.yaml"))
        raise SitewrightError(
            f"images/vm/{name}/recipe.yaml: no such recipe; there are {', '.join(known)}",
            "Name one of these in the site file's hypervisor.images.",
        )
    return directory


def _common() -> Path:
    return paths.REPOSITORY / "images" / "common"


def _remove(root: Path, pattern: str) -> None:
    for path in root.glob(pattern):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
