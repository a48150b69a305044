"""What images/containers/<name>/recipe.yaml may say, and the digest that names what is built from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from sitewright.artifacts.recipes import AbsolutePath, Check, Recipe, RelativePath, digest_of, file_digest

BUILDER = 1  # raised when the same recipe shall give another image
_REPOSITORY = r"^[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*$"

Tag = Annotated[str, StringConstraints(pattern=r"^[\w][\w.-]{0,127}$")]
Mode = Annotated[str, StringConstraints(pattern=r"^0[0-7]{3,4}$")]


class Debian(Recipe):
    """A Debian root file system without apt, made by mmdebstrap from the mirror this machine uses itself.

    Recipes that name the same root share the layer.
    """

    release: str = Field(pattern=r"^[a-z]+$", description="code name, for example bookworm")
    variant: Literal["essential", "extract"] = Field(
        "essential",
        description="essential: a small Debian, configured. extract: the packages and what they depend on, "
        "unpacked only: no shell, no /etc/passwd, no alternatives",
    )
    packages: tuple[str, ...] = Field(description="beyond the essential ones; nothing recommended is added")
    links: dict[AbsolutePath, str] = Field(
        default_factory=dict, description="symbolic link → where to; what configuring would have made"
    )
    remove: tuple[RelativePath, ...] = Field((), description="globs below the root of what nobody needs")


class ContainerRecipe(Recipe):
    repository: str = Field(pattern=_REPOSITORY, description="path in the registry")
    tags: tuple[Tag, ...] = Field(
        min_length=1, description="the first says what is inside, others are names that somebody asks for"
    )
    debian: Debian | None = Field(None, description="absent: a scratch image, nothing but the programs")
    programs: dict[AbsolutePath, str] = Field(
        default_factory=dict, description="path in the image → program of the tools directory"
    )
    directories: dict[AbsolutePath, Mode] = Field(
        default_factory=dict, description="path in the image → mode, octal, quoted"
    )
    entrypoint: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    user: str = Field("", description="number; empty is root")
    checks: tuple[Check, ...] = Field(min_length=1)


def recipe_digest(recipe: ContainerRecipe, tools: Path) -> str:
    """Sixteen hex digits over the recipe and the content of the programs it takes.

    Tags count as well: a layout is built with its checks, and they may name the version of a tag.
    Raises: SitewrightError where `tools` lacks a program.
    """
    hint = "Run `make tools`; a recipe may name only programs built there."
    programs = {name: file_digest(tools / name, hint) for name in sorted(set(recipe.programs.values()))}
    return digest_of([BUILDER, recipe.model_dump(mode="json", exclude_defaults=True), programs])


def debian_digest(debian: Debian) -> str:
    return digest_of([BUILDER, debian.model_dump(mode="json", exclude_defaults=True)])
