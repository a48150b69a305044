"""Builds the Python environments of images/environments/ into a cache.

    ~/.cache/sitewright/environments/
        <name>-<digest>/       a virtual environment with a manifest.json; exists only when complete

An environment is published below <shared>/environments/ and runs there, in the container image that its
recipe names as base: its `python` is a link to that image's interpreter, its compiled files name that place.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from sitewright.artifacts import oci
from sitewright.artifacts.container_images import ContainerImage
from sitewright.artifacts.inside import SEARCH_PATH, Bind, run, run_inside
from sitewright.artifacts.recipes import (
    AbsolutePath,
    Check,
    Recipe,
    RelativePath,
    digest_of,
    file_digest,
    load_recipe,
)
from sitewright.artifacts.scratch import keep, require_space, scratch_of
from sitewright.errors import SitewrightError

BUILDER = 1  # raised when the same recipe shall give another environment
MANIFEST = "manifest.json"
SHARED = "/shared/environments"  # where containers see environments
INSTALL_TIMEOUT = 3600  # seconds; 5 GB over a slow link
COMPILE_TIMEOUT = 1200  # seconds; 20 on two cores
PREPARE_TIMEOUT = 600  # seconds
CHECK_TIMEOUT = 300  # seconds; an import that reads from a cold disk


class EnvironmentRecipe(Recipe):
    base: str = Field(description="directory of images/containers/")
    python: AbsolutePath = Field(pattern=r"/python3\.\d+$", description="interpreter of the base, with minor")
    requirements: str = Field("requirements.txt", description="locked with hashes, beside the recipe")
    build_gib: float = Field(gt=0, description="free space a first build wants: downloads and their content")
    prune: tuple[RelativePath, ...] = Field((), description="globs below site-packages, removed")
    prepare: tuple[tuple[str, ...], ...] = Field((), description="commands run in the base, may write")
    checks: tuple[Check, ...] = Field(min_length=1, description="run in the base; `python` is the new one")


@dataclass(frozen=True)
class SoftwareEnvironment:
    """One environment of the cache. directory: there or yet to be built; its name is `<name>-<digest>`."""

    name: str
    recipe: EnvironmentRecipe
    source: Path
    directory: Path

    @property
    def built(self) -> bool:
        return (self.directory / MANIFEST).is_file()

    @property
    def path(self) -> str:
        """Where containers see it once it is published."""
        return f"{SHARED}/{self.directory.name}"


def default_cache() -> Path:
    return Path.home() / ".cache" / "sitewright" / "environments"


def read_recipe(name: str, recipes: Path) -> EnvironmentRecipe:
    return load_recipe(recipes / name, EnvironmentRecipe)


def find(name: str, recipes: Path, base: ContainerImage, cache: Path) -> SoftwareEnvironment:
    """The environment of a recipe, wherever it stands; builds nothing.

    recipes: images/environments/ of the checkout; base: the image its recipe names. An image built from
    another recipe makes another environment, since a library may be missing in it.
    """
    recipe = read_recipe(name, recipes)
    locked = file_digest(recipes / name / recipe.requirements, f"README.md of {name} says how to make it.")
    digest = digest_of(
        [BUILDER, recipe.model_dump(mode="json", exclude_defaults=True), locked, base.layout.name], digits=12
    )
    return SoftwareEnvironment(name, recipe, recipes / name, cache / f"{name}-{digest}")


def build(environment: SoftwareEnvironment, base: ContainerImage) -> bool:
    """Builds the environment unless it is there; whether it had to. The base must be built.

    Needs root. Two builds at once wait for one another; a build that fails or is killed leaves nothing.
    Raises: SitewrightError naming the step and what it printed.
    """
    with scratch_of(environment.directory.parent) as scratch:
        if environment.built:
            return False
        require_space(scratch, environment.recipe.build_gib, f"environment {environment.name}")
        made, root = scratch / "environment", scratch / "root"
        _lay_out(environment.recipe, made)
        _install(environment, made)
        _prune(environment, made)
        oci.unpack(base.layout, root)
        _compile(environment, made, root)
        for command in environment.recipe.prepare:
            _prepare(environment, command, made, root)
        for check in environment.recipe.checks:
            _check(environment, check, made, root)
        _write_manifest(environment, made)
        keep(made, environment.directory)
        return True


def _version(recipe: EnvironmentRecipe) -> str:
    return recipe.python.rpartition("python")[2]


def _site_packages(recipe: EnvironmentRecipe, made: Path) -> Path:
    return made / "lib" / f"python{_version(recipe)}" / "site-packages"


def _lay_out(recipe: EnvironmentRecipe, made: Path) -> None:
    """An empty virtual environment.

    Source: PEP 405; pyvenv.cfg beside bin/ makes the interpreter that bin/python links to use this library.
    """
    _site_packages(recipe, made).mkdir(parents=True)
    (made / "bin").mkdir()
    (made / "bin" / "python").symlink_to(recipe.python)
    (made / "bin" / "python3").symlink_to("python")
    home = recipe.python.rpartition("/")[0]
    (made / "pyvenv.cfg").write_text(
        f"home = {home}\ninclude-system-site-packages = false\n", encoding="utf-8"
    )


def _install(environment: SoftwareEnvironment, made: Path) -> None:
    """Downloads what is not in uv's cache and links it in.

    uv runs on this machine, where the package index is reached; only wheels are taken, so nothing is built
    with this machine's interpreter and its version does not matter.
    """
    target = _site_packages(environment.recipe, made)
    command = [
        _uv(),
        "pip",
        "install",
        "--quiet",
        "--no-config",
        "--no-deps",  # the lock is complete, and an override in it contradicts what a package asks for
        "--require-hashes",
        "--only-binary=:all:",
        f"--python={sys.executable}",
        f"--python-version={_version(environment.recipe)}",
        f"--target={target}",
        f"--requirements={environment.source / environment.recipe.requirements}",
    ]
    run(command, f"environment {environment.name}: installing packages", INSTALL_TIMEOUT)
    # Scripts name this machine's interpreter in their first line; modules are run with `python -m`.
    shutil.rmtree(target / "bin", ignore_errors=True)
    (target / ".lock").unlink(missing_ok=True)


def _uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if not found:
        raise SitewrightError("no program uv beside this Python or on PATH", "Run `uv sync` in the checkout.")
    return found


def _prune(environment: SoftwareEnvironment, made: Path) -> None:
    site_packages = _site_packages(environment.recipe, made)
    for pattern in environment.recipe.prune:
        found = list(site_packages.glob(pattern))
        if not found:
            raise SitewrightError(
                f"{environment.source}/recipe.yaml: prune: nothing is named {pattern}",
                "The locked packages changed; take the entry out or correct it.",
            )
        for path in found:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _compile(environment: SoftwareEnvironment, made: Path, root: Path) -> None:
    """Compiles all modules, since nobody can once the environment is mounted read-only.

    unchecked-hash: a compiled file stays valid when a copy to another file system changes times. The exit
    status is ignored: packages carry tests for newer Pythons that do not compile; the checks come after.
    """
    compiler = "python -m compileall -q -q -j 0 --invalidation-mode unchecked-hash lib || true"
    command = ("/bin/sh", "-c", f'cd "{environment.path}" && {compiler}')
    _run_in_base(
        environment, command, "compiling", COMPILE_TIMEOUT, Bind(made, environment.path, False), root
    )


def _prepare(environment: SoftwareEnvironment, command: Sequence[str], made: Path, root: Path) -> None:
    what = f"prepare `{shlex.join(command)}`"
    _run_in_base(environment, command, what, PREPARE_TIMEOUT, Bind(made, environment.path, False), root)


def _check(environment: SoftwareEnvironment, check: Check, made: Path, root: Path) -> None:
    what = f"check `{shlex.join(check.run)}`"
    printed = _run_in_base(environment, check.run, what, CHECK_TIMEOUT, Bind(made, environment.path), root)
    if check.prints not in printed:
        raise SitewrightError(
            f"environment {environment.name}: {what} printed {printed.strip()!r}, which lacks {check.prints!r}"
        )


def _run_in_base(
    environment: SoftwareEnvironment,
    command: Sequence[str],
    what: str,
    timeout: float,
    bind: Bind,
    root: Path,
) -> str:
    """What a command printed that ran in the base, where `python` is the one of the environment."""
    variables = {"PATH": f"{environment.path}/bin:{SEARCH_PATH}", "HOME": "/tmp", "LANG": "C.UTF-8"}
    said = f"environment {environment.name}: {what}"
    return run_inside(root, command, said, timeout, binds=[bind], environment=variables)


def _write_manifest(environment: SoftwareEnvironment, made: Path) -> None:
    """What is inside, for people and for `publish`; written last, so that it marks a complete environment."""
    infos = _site_packages(environment.recipe, made).glob("*.dist-info")
    size = sum(path.lstat().st_size for path in made.rglob("*") if not path.is_dir())
    content = {
        "name": environment.name,
        "directory": environment.directory.name,
        "python": environment.recipe.python,
        "bytes": size,
        "packages": sorted(info.name.removesuffix(".dist-info").replace("-", "==", 1) for info in infos),
    }
    (made / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.chmod(made, 0o755)  # noqa: PTH101 - readable for every user of the shared file system
