"""Root file systems made in layers, each kept under the digest of all that it follows from.

A layer holds what its step changed, on top of the layers before it: an upper directory of overlayfs. A step whose
sources, and whose steps before it, are as they were is not done again.
Source: kernel documentation, filesystems/overlayfs, on layers and on changing a layer below a mount.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sitewright.artifacts.inside import run
from sitewright.errors import SitewrightError

FORGOTTEN_AFTER = 14 * 86400  # seconds; a layer that no build used for so long is removed
CUT_OFF_AFTER = 2 * 3600  # seconds; no build takes so long: what is older was killed
LAYERS, WORK = "layers", ".work"
_MOUNT_TIMEOUT = 30
_MNT_DETACH = 2


@dataclass(frozen=True)
class Layer:
    """directory: in the cache, there once the layer is finished; `root` in it is what the step changed."""

    name: str
    key: str
    directory: Path

    @property
    def built(self) -> bool:
        return self.directory.is_dir()

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def partial(self) -> Path:
        return self.directory.with_name(f"{self.directory.name}.partial")


def plan(cache: Path, digests: Mapping[str, str]) -> list[Layer]:
    """The layers of an image. digests: of the sources of each step, by its name, in their order."""
    layers, key = [], ""
    for name, digest in digests.items():
        key = hashlib.sha256(f"{key}\0{name}\0{digest}".encode()).hexdigest()[:16]
        layers.append(Layer(name, key, cache / LAYERS / f"{name}-{key}"))
    return layers


def missing(layers: Sequence[Layer]) -> list[Layer]:
    """Those to build: the first that is not there, and all that follow it."""
    first = next((index for index, layer in enumerate(layers) if not layer.built), len(layers))
    return list(layers[first:])


def begin(layer: Layer, below: Sequence[Layer], work: Path) -> Path:
    """Where the step finds the root it changes. below: the layers before it, the first one first.

    work: directory of this build, where the root is seen. A first layer has its root to itself, and it is absent.
    Raises: SitewrightError, also where the file system of the cache cannot be an upper layer.
    """
    unmount(work)
    shutil.rmtree(layer.partial, ignore_errors=True)
    layer.partial.mkdir(parents=True)
    (layer.partial / "began").touch()
    root = layer.partial / "root"
    if not below:
        return root
    seen, scratch = work / "root", layer.partial / "scratch"
    for directory in (root, scratch, seen):
        directory.mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    lower = ":".join(str(one.root) for one in reversed(below))
    options = f"lowerdir={lower},upperdir={root},workdir={scratch}"
    try:
        run(
            ["mount", "-t", "overlay", "-o", options, "overlay", str(seen)],
            f"mounting {seen}",
            _MOUNT_TIMEOUT,
        )
    except SitewrightError as error:
        hint = "The cache of images needs a file system that overlayfs can write to: ext4, xfs or btrfs."
        raise SitewrightError(error.message, hint) from error
    for one in below:
        os.utime(one.directory)
    return seen


def finish(layer: Layer, work: Path, log: str = "") -> None:
    """Keep what the step changed; it is there whole or not at all. log: what its programs said."""
    unmount(work)
    began = layer.partial / "began"
    seconds = time.time() - began.stat().st_mtime
    began.unlink()
    shutil.rmtree(layer.partial / "scratch", ignore_errors=True)
    text = f"== layer {layer.name} {layer.key}: built in {seconds:.1f} s\n{log.rstrip()}\n"
    (layer.partial / "log").write_text(text, encoding="utf-8")
    shutil.rmtree(layer.directory, ignore_errors=True)
    layer.partial.rename(layer.directory)


def unmount(work: Path) -> None:
    """Nothing of a build is mounted any more, also when it was killed half-way."""
    seen = work / "root"
    libc = ctypes.CDLL(None, use_errno=True)
    while os.path.ismount(seen):
        if libc.umount2(bytes(seen), _MNT_DETACH) != 0:
            raise SitewrightError(f"{seen}: cannot unmount: {os.strerror(ctypes.get_errno())}")


def clean(cache: Path, now: float | None = None) -> None:
    """Remove what builds that were killed left behind, and layers that nobody used for long."""
    now = time.time() if now is None else now
    for work in cache.glob(f"*{WORK}"):
        if now - work.stat().st_mtime > CUT_OFF_AFTER:
            unmount(work)
            shutil.rmtree(work, ignore_errors=True)
    for directory in (cache / LAYERS).glob("*"):
        limit = CUT_OFF_AFTER if directory.suffix == ".partial" else FORGOTTEN_AFTER
        if now - directory.stat().st_mtime > limit:
            shutil.rmtree(directory, ignore_errors=True)
