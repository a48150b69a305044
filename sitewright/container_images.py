"""Builds the images of images/containers/ into a cache of OCI layouts.

~/.cache/sitewright/images/containers/
    <name>-<digest of recipe and programs>/   one image, an OCI layout; exists only when complete
    debian-<digest>/layer.tar.gz, layer.json  a Debian root, shared by the recipes that name the same
    lock                                      held while something is built
    .building/                                scratch of the builder; left over only by a killed build
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from sitewright import oci
from sitewright.container_recipe import (
    Check,
    ContainerRecipe,
    Debian,
    debian_digest,
    load_recipe,
    recipe_digest,
)
from sitewright.errors import SitewrightError

DEBIAN_TIMEOUT = 900  # seconds; 20 to 30 on a near mirror
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
    recipe = load_recipe(recipes / name)
    return ContainerImage(name, recipe, cache / f"{name}-{recipe_digest(recipe, tools)}")


def build(image: ContainerImage, tools: Path) -> bool:
    """Builds the image unless it is there; whether it had to.

    Two builds at once wait for one another. A build that fails or is killed leaves no layout.
    Raises: SitewrightError naming the image and what its build printed.
    """
    with _locked(image.layout.parent):
        if image.built:
            return False
        scratch = image.layout.parent / ".building"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        layers = [_debian_layer(image.recipe.debian, scratch)] if image.recipe.debian else []
        if image.recipe.programs or image.recipe.directories:
            layers.append(_program_layer(image.recipe, tools, scratch / "programs.tar.gz"))
        layout = scratch / "layout"
        oci.write_layout(layout, layers, _runtime(image))
        _check(image, layout, scratch / "root")
        shutil.rmtree(image.layout, ignore_errors=True)
        layout.rename(image.layout)
        shutil.rmtree(scratch)
        return True


@contextlib.contextmanager
def _locked(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
        shutil.rmtree(kept, ignore_errors=True)
        made.rename(kept)
    content = json.loads((kept / "layer.json").read_text(encoding="utf-8"))
    return oci.Layer(**{**content, "path": kept / content["path"]})


def _make_debian(debian: Debian, root: Path) -> None:
    """A Debian root in `root`, from the mirrors that apt of this machine is set to."""
    sources = [*Path("/etc/apt").glob("sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    text = "\n\n".join(
        file.read_text(encoding="utf-8") for file in sources if file.suffix in {".list", ".sources"}
    )
    command = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=essential",  # no apt inside: an image is rebuilt, not updated
        '--aptopt=APT::Install-Recommends "false"',
        f"--include={','.join(debian.packages)}",
        debian.release,
        str(root),
        "-",
    ]
    what = f"Debian {debian.release} root with {', '.join(debian.packages)}"
    # SOURCE_DATE_EPOCH: packages that write times into files write this one.
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
    _run(command, what, DEBIAN_TIMEOUT, text=text, environment=environment)
    for pattern in _UNWANTED:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _check(image: ContainerImage, layout: Path, root: Path) -> None:
    oci.unpack(layout, root)
    for check in image.recipe.checks:
        _check_one(image.name, check, root)
    shutil.rmtree(root)


def _check_one(name: str, check: Check, root: Path) -> None:
    what = f"image {name}: check `{' '.join(check.run)}`"
    environment = {"PATH": oci.SEARCH_PATH.removeprefix("PATH=")}
    printed = _run(["/usr/sbin/chroot", str(root), *check.run], what, CHECK_TIMEOUT, environment=environment)
    if check.prints not in printed:
        raise SitewrightError(
            f"{what} printed {printed.strip()!r}, which lacks {check.prints!r}",
            f"Either the program or images/containers/{name}/recipe.yaml has another version.",
        )


def _run(
    command: list[str],
    what: str,
    timeout: float,
    *,
    text: str = "",
    environment: dict[str, str] | None = None,
) -> str:
    """What the command printed (output and errors). Raises SitewrightError with its last lines."""
    try:
        done = subprocess.run(
            command,
            input=text,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise SitewrightError(f"{what}: no program {command[0]}", f"Install {command[0]}.") from error
    except subprocess.TimeoutExpired as error:
        raise SitewrightError(f"{what}: not done after {timeout:.0f} s") from error
    if done.returncode != 0:
        last = "\n".join(done.stdout.strip().splitlines()[-12:])
        raise SitewrightError(f"{what}: exit status {done.returncode}\n{last}")
    return done.stdout
