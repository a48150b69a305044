"""Recipes below images/: data files that say what is built. This is what all kinds of them have in common."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sitewright.errors import SitewrightError

RECIPE = "recipe.yaml"


class Recipe(BaseModel):
    """Unknown keys are refused by name, and a recipe that was read does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Check(Recipe):
    """A command run inside what was built. It must succeed, and print `prints` somewhere."""

    run: tuple[str, ...] = Field(min_length=1, description="program and arguments; no shell unless named")
    prints: str = ""


AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^:]+$")]


def _stays_below(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r} must be a path below the directory: no leading '/', no '..'")
    return path


RelativePath = Annotated[str, StringConstraints(min_length=1), AfterValidator(_stays_below)]

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


def load_recipe(directory: Path, kind: type[AnyRecipe]) -> AnyRecipe:
    """The recipe in a directory such as images/containers/etcd/.

    Raises: SitewrightError naming the file and every wrong key, or the recipes there are.
    """
    file = directory / RECIPE
    try:
        return kind.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        known = ", ".join(sorted(path.parent.name for path in directory.parent.glob(f"*/{RECIPE}")))
        raise SitewrightError(f"{file}: no such recipe", f"There are: {known}.") from error
    except yaml.YAMLError as error:
        raise SitewrightError(f"{file}: not YAML: {error}") from error
    except ValidationError as error:
        problems = [
            f"{file}: {'.'.join(map(str, item['loc'])) or 'recipe'}: {item['msg']}" for item in error.errors()
        ]
        raise SitewrightError("\n".join(problems)) from error


def digest_of(value: object, digits: int = 16) -> str:
    """The first hex digits of the sha256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:digits]


def file_digest(path: Path, hint: str = "") -> str:
    """sha256 of a file, in hex. Raises: SitewrightError with `hint` where it cannot be read."""
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise SitewrightError(f"{path}: {error.strerror}", hint) from error
