"""Published boot images: what is in them, who boots them, and which of them nobody needs any more.

An image is a directory below `image_server.publish_dir`, named by its digest, with `manifest.json` in it, which the
role `boot_image` writes.
"""

import json
import shutil
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sitewright.artifacts import verity
from sitewright.errors import SitewrightError

MANIFEST = "manifest.json"
SHOWN = 12  # characters of a digest
_REMOVED = ".removed"


@dataclass(frozen=True)
class BootImage:
    """directory: its name is the digest; published: seconds since the epoch; nodes: xnames that boot it next."""

    directory: Path
    manifest: Mapping[str, Any]
    published: float
    nodes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def digest(self) -> str:
        return self.directory.name

    @property
    def log(self) -> Path:
        """What the programs said that built it, where that was published too."""
        return self.directory.with_name(f"{self.digest}.log")

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(self.manifest["sizes"].values())

    @property
    def packages(self) -> dict[str, str]:
        """Version by package."""
        return dict(entry.split("=", 1) for entry in self.manifest["packages"])


def published(directory: Path, kernels: Mapping[str, str]) -> list[BootImage]:
    """All images below `directory`, the newest first. kernels: URL that each node boots, by xname.

    Raises: SitewrightError where the directory or a manifest cannot be read.
    """
    try:
        # What begins with a dot is being published, or being removed.
        there = [path for path in directory.iterdir() if not path.name.startswith(".")]
        found = [path for path in there if (path / MANIFEST).is_file()]
        return sorted((_read(path, kernels) for path in found), key=lambda image: -image.published)
    except OSError as error:
        raise SitewrightError(
            f"{error.filename}: {error.strerror}",
            "This machine needs what the site file's image_server.publish_dir names.",
        ) from error


def _read(directory: Path, kernels: Mapping[str, str]) -> BootImage:
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        image = BootImage(directory, manifest, path.stat().st_mtime, _booting(directory.name, kernels))
        _ = image.name, image.size, image.packages
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SitewrightError(
            f"{path}: no manifest of a boot image ({error!r})",
            "`pulumi up --refresh` publishes the image anew.",
        ) from error
    return image


def _booting(digest: str, kernels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(xname for xname, url in kernels.items() if f"/{digest}/" in url))


def find(images: Sequence[BootImage], digest: str) -> BootImage:
    """The image whose digest begins so. Raises: SitewrightError where none does, or several do."""
    found = [image for image in images if image.digest.startswith(digest.removeprefix("sha256:"))]
    if len(found) == 1 and digest:
        return found[0]
    there = ", ".join(image.digest[:SHOWN] for image in images) or "none"
    problem = "several images begin with" if found and digest else "no image begins with"
    raise SitewrightError(f"{problem} {digest!r}; there is {there}")


def difference(old: BootImage, new: BootImage) -> list[str]:
    """What a node gets that boots `new` after `old`, a line each; empty if they are the same."""
    lines = []
    for what in ("name", "kernel"):
        if old.manifest[what] != new.manifest[what]:
            lines.append(f"{what}: {old.manifest[what]} -> {new.manifest[what]}")
    before, after = (_arguments(image) for image in (old, new))
    lines += [f"kernel argument - {one}" for one in sorted(before - after)]
    lines += [f"kernel argument + {one}" for one in sorted(after - before)]
    for file, size in new.manifest["sizes"].items():
        if old.manifest["files"].get(file) != new.manifest["files"][file]:
            lines.append(f"{file}: {old.manifest['sizes'].get(file, 0):,} -> {size:,} bytes")
    for package in sorted(old.packages | new.packages):
        was, is_now = old.packages.get(package), new.packages.get(package)
        if was != is_now:
            lines.append(f"package {package}: {was or 'absent'} -> {is_now or 'absent'}")
    return lines


def _arguments(image: BootImage) -> set[str]:
    """Without what says only that the root is another one."""
    return {one for one in image.manifest["kernel_arguments"] if not one.startswith(f"{verity.ARGUMENT}=")}


def unneeded(images: Iterable[BootImage], keep: int, wanted: Container[str] = ()) -> list[BootImage]:
    """Those that no node boots, that are not among the newest `keep` of their name, and that nobody `wanted`.

    wanted: digests, in hex.
    """
    by_name: dict[str, list[BootImage]] = {}
    for image in sorted(images, key=lambda one: -one.published):
        by_name.setdefault(image.name, []).append(image)
    older = [image for of_name in by_name.values() for image in of_name[keep:]]
    return [image for image in older if not image.nodes and image.digest not in wanted]


def remove(image: BootImage) -> None:
    """It is gone at once for whoever asks for it; `sweep` removes what is left where this is interrupted."""
    aside = image.directory.with_name(f".{image.digest}{_REMOVED}")
    try:
        image.directory.rename(aside)
        image.log.unlink(missing_ok=True)
        shutil.rmtree(aside)
    except OSError as error:
        raise SitewrightError(f"{image.directory}: {error.strerror}", "The same command goes on.") from error


def sweep(directory: Path) -> None:
    """Remove what `remove` had begun to."""
    for aside in directory.glob(f".*{_REMOVED}"):
        shutil.rmtree(aside, ignore_errors=True)
