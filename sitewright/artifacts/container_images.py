"""Builds the images of images/containers/ into a cache of OCI layouts.

~/.cache/sitewright/images/containers/
    <name>-<digest of recipe and programs>/   one image, an OCI layout; exists only when complete
    debian-<digest>/layer.tar.gz, layer.json  a Debian root, shared by the recipes that name the same
    lock                                      held while something is built
    .building/                                scratch of the builder; left over only by a killed build
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from sitewright.artifacts import oci
from sitewright.artifacts.container_recipe import ContainerRecipe, Debian, debian_digest, recipe_digest
from sitewright.artifacts.debian import NO_RECOMMENDS, make_root
from sitewright.artifacts.inside import run_inside
from sitewright.artifacts.recipes import Check, load_recipe
from sitewright.artifacts.scratch import keep, require_space, scratch_of
from sitewright.errors import SitewrightError

DEBIAN_TIMEOUT = 900  # seconds; 20 to 30 on a near mirror
BUILD_GIB = 2.0  # a Debian root, its layer and its check at once
CHECK_TIMEOUT = 60  # seconds; a check prints a version
# What a running Debian writes, what belongs to the machine that built it, and documentation.
_UNWANTED = (
    "dev/*",
    "etc/apt/sources.list",
    "etc/apt/sources.list.d/*",
    "etc/hostname",
    "etc/machine-id",
    "etc/resolv.conf",
    "usr/share/doc/*",
    "usr/share/locale/*",
    "usr/share/man/*",
    "var/cache/*/*",
    "var/lib/apt/lists/*",
    "var/lib/dpkg/*-old",
    "var/log/*",
)


@dataclass(frozen=True)
class ContainerImage:
    """One image of the cache. layout: its directory, there or yet to be built."""

    name: str
    recipe: ContainerRecipe
    layout: Path

    @property
    def built(self) -> bool:
        return (self.layout / "index.json").is_file()

    @property
    def digest(self) -> str:
        return oci.layout_digest(self.layout)


def default_cache() -> Path:
    return Path.home() / ".cache" / "sitewright" / "images" / "containers"


def find(name: str, recipes: Path, tools: Path, cache: Path) -> ContainerImage:
    """The image of a recipe, wherever it stands; builds nothing.

    recipes: images/containers/ of the checkout; tools: directory of the programs.
    """
    recipe = load_recipe(recipes / name, ContainerRecipe)
    return ContainerImage(name, recipe, cache / f"{name}-{recipe_digest(recipe, tools)}")


def build(image: ContainerImage, tools: Path) -> bool:
    """Builds the image unless it is there; whether it had to.

    Two builds at once wait for one another. A build that fails or is killed leaves no layout.
    Raises: SitewrightError naming the image and what its build printed.
    """
    with scratch_of(image.layout.parent) as scratch:
        if image.built:
            return False
        require_space(scratch, BUILD_GIB, f"image {image.name}")
        layers = [_debian_layer(image.recipe.debian, scratch)] if image.recipe.debian else []
        if image.recipe.programs or image.recipe.directories:
            layers.append(_program_layer(image.recipe, tools, scratch / "programs.tar.gz"))
        layout = scratch / "layout"
        oci.write_layout(layout, layers, _runtime(image))
        _check(image, layout, scratch / "root")
        keep(layout, image.layout)
        return True


def _runtime(image: ContainerImage) -> oci.Runtime:
    recipe = image.recipe
    labels = {
        "org.opencontainers.image.title": image.name,
        "org.opencontainers.image.version": recipe.tags[0],
    }
    return oci.Runtime(recipe.entrypoint, recipe.environment, recipe.user, labels)


def _program_layer(recipe: ContainerRecipe, tools: Path, target: Path) -> oci.Layer:
    files = {path: tools / name for path, name in recipe.programs.items()}
    return oci.layer_from_files(
        files, {path: int(mode, 8) for path, mode in recipe.directories.items()}, target
    )


def _debian_layer(debian: Debian, scratch: Path) -> oci.Layer:
    """The layer of a Debian root, from the cache or new."""
    kept = scratch.parent / f"debian-{debian_digest(debian)}"
    if not (kept / "layer.json").is_file():
        root, made, begun = scratch / "debian", scratch / "debian-layer", time.time()
        _make_debian(debian, root)
        made.mkdir()
        layer = oci.layer_from_directory(root, made / "layer.tar.gz", newest=begun)
        content = {**asdict(layer), "path": layer.path.name}
        (made / "layer.json").write_text(json.dumps(content), encoding="utf-8")
        shutil.rmtree(root)
        keep(made, kept)
    content = json.loads((kept / "layer.json").read_text(encoding="utf-8"))
    return oci.Layer(**{**content, "path": kept / content["path"]})


def _make_debian(debian: Debian, root: Path) -> None:
    make_root(
        root,
        debian.release,
        debian.packages,
        debian.variant,  # any of them without apt: an image is rebuilt, not updated
        apt_options=[NO_RECOMMENDS],
        environment={"SOURCE_DATE_EPOCH": "0"},  # packages that write times into files write this one
        timeout=DEBIAN_TIMEOUT,
    )
    for pattern in (*_UNWANTED, *debian.remove):
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name, target in debian.links.items():
        (root / name.removeprefix("/")).symlink_to(target)


def _check(image: ContainerImage, layout: Path, root: Path) -> None:
    oci.unpack(layout, root)
    for check in image.recipe.checks:
        _check_one(image.name, check, root)


def _check_one(name: str, check: Check, root: Path) -> None:
    what = f"image {name}: check `{' '.join(check.run)}`"
    printed = run_inside(root, check.run, what, CHECK_TIMEOUT)
    if check.prints not in printed:
        raise SitewrightError(
            f"{what} printed {printed.strip()!r}, which lacks {check.prints!r}",
            f"Either the program or images/containers/{name}/recipe.yaml has another version.",
        )
