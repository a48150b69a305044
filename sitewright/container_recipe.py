"""What images/containers/<name>/recipe.yaml may say, and the digest that names what is built from it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sitewright.errors import SitewrightError

BUILDER = 1  # raised when the same recipe shall give another image
RECIPE = "recipe.yaml"
_TAG = r"^[\w][\w.-]{0,127}$"
_REPOSITORY = r"^[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*$"
_ABSOLUTE = r"^/[^:]+$"

AbsolutePath = Annotated[str, StringConstraints(pattern=_ABSOLUTE)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Debian(_Model):
    """A Debian root file system without apt, made by mmdebstrap from the mirror this machine uses itself.

    Recipes that name the same release and packages share the layer.
    """

    release: str = Field(pattern=r"^[a-z]+$", description="code name, for example bookworm")
    packages: tuple[str, ...] = Field(description="beyond the essential ones; nothing recommended is added")


class Check(_Model):
    """A command run inside the finished root. It must succeed, and print `prints` somewhere."""

    run: tuple[str, ...] = Field(min_length=1, description="program and arguments; no shell unless named")
    prints: str = ""


class ContainerRecipe(_Model):
    repository: str = Field(pattern=_REPOSITORY, description="path in the registry")
    tags: tuple[Annotated[str, StringConstraints(pattern=_TAG)], ...] = Field(
        min_length=1, description="the first says what is inside, others are names that somebody asks for"
    )
    debian: Debian | None = Field(None, description="absent: a scratch image, nothing but the programs")
    programs: dict[AbsolutePath, str] = Field(
        default_factory=dict, description="path in the image → program of the tools directory"
    )
    directories: dict[AbsolutePath, Annotated[str, StringConstraints(pattern=r"^0[0-7]{3,4}$")]] = Field(
        default_factory=dict, description="path in the image → mode, octal, quoted"
    )
    entrypoint: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    user: str = Field("", description="number; empty is root")
    checks: tuple[Check, ...] = Field(min_length=1)


def load_recipe(directory: Path) -> ContainerRecipe:
    """The recipe of images/containers/<name>/.

    Raises: SitewrightError naming the file and every wrong key, or the names there are.
    """
    file = directory / RECIPE
    try:
        return ContainerRecipe.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        known = ", ".join(sorted(path.parent.name for path in directory.parent.glob(f"*/{RECIPE}")))
        raise SitewrightError(f"{file}: no such recipe", f"Container images there are: {known}.") from error
    except yaml.YAMLError as error:
        raise SitewrightError(f"{file}: not YAML: {error}") from error
    except ValidationError as error:
        problems = [
            f"{file}: {'.'.join(map(str, item['loc'])) or 'recipe'}: {item['msg']}" for item in error.errors()
        ]
        raise SitewrightError("\n".join(problems)) from error


def recipe_digest(recipe: ContainerRecipe, tools: Path) -> str:
    """Sixteen hex digits over the recipe and the content of the programs it takes.

    Tags count as well: a layout is built with its checks, and they may name the version of a tag.
    Raises: SitewrightError where `tools` lacks a program.
    """
    programs = {name: _file_digest(tools / name) for name in sorted(set(recipe.programs.values()))}
    return digest_of([BUILDER, recipe.model_dump(mode="json"), programs])


def debian_digest(debian: Debian) -> str:
    return digest_of([BUILDER, debian.model_dump(mode="json")])


def digest_of(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise SitewrightError(
            f"{path}: {error.strerror}", "Run `make tools`; a recipe may name only programs built there."
        ) from error
