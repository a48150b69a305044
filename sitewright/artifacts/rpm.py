"""RPM root file systems: the commands that make one with dnf (RHEL and its rebuilds) or with zypper (SLES, openSUSE).

Never run where this was written: no repository of either was at hand. The commands are rendered, and compared with
recorded ones. Source: dnf(8) of dnf 4, options --installroot and --repofrompath; zypper(8), option --root.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sitewright.artifacts.boot_recipe import BootRecipe, Repository
from sitewright.artifacts.inside import run_together

TIMEOUT = 1800  # seconds


def make_root(root: Path, recipe: BootRecipe, timeout: float = TIMEOUT) -> str:
    """The root of a recipe, with its packages; what the programs said. Needs root.

    Raises: SitewrightError with the last lines of the program that failed.
    """
    said = []
    for command in commands(root, recipe):
        said.append(run_together(command, f"{recipe.distribution} root in {root}", timeout))
    return "".join(said)


def commands(root: Path, recipe: BootRecipe) -> list[list[str]]:
    """In the order in which they are run; each of them must succeed."""
    kinds = {"rhel": _dnf, "sles": _zypper}
    return [
        ["mkdir", "--parents", str(root)],
        *_keys(root, recipe.repositories),
        *kinds[recipe.distribution](root, recipe),
    ]


def _keys(root: Path, repositories: Sequence[Repository]) -> Iterator[list[str]]:
    """Into the new root, so that what is installed is checked against them and against no key of this host."""
    for key in dict.fromkeys(repository.key for repository in repositories):
        yield ["rpm", "--root", str(root), "--import", key]


def _dnf(root: Path, recipe: BootRecipe) -> Iterator[list[str]]:
    given = []
    for repository in recipe.repositories:
        given += [
            f"--repofrompath={repository.name},{repository.url}",
            f"--setopt={repository.name}.gpgcheck=1",
            f"--setopt={repository.name}.gpgkey={repository.key}",
        ]
    yield [
        "dnf",
        "--assumeyes",
        f"--installroot={root}",
        f"--releasever={recipe.release}",
        "--setopt=reposdir=/nonexistent",  # of this host
        "--setopt=install_weak_deps=False",
        "--setopt=tsflags=nodocs",
        "--setopt=keepcache=False",
        *given,
        "install",
        *recipe.packages,
    ]


def _zypper(root: Path, recipe: BootRecipe) -> Iterator[list[str]]:
    inside = ["zypper", "--non-interactive", "--root", str(root), "--releasever", recipe.release]
    for repository in recipe.repositories:
        yield [*inside, "addrepo", "--gpgcheck", repository.url, repository.name]
    yield [*inside, "refresh"]
    yield [*inside, "install", "--no-recommends", "--auto-agree-with-licenses", *recipe.packages]
    yield [*inside, "clean", "--all"]
