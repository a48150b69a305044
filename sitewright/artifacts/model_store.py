"""Models made by the recipes of images/models/: built into a cache, described by a manifest, verified.

    ~/.cache/sitewright/models/<name>-<digest>/   what a serving engine loads, and manifest.json

The manifest holds the sha256 of every file, so that a copy anywhere can be verified.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from sitewright.artifacts import oci
from sitewright.artifacts.container_images import ContainerImage
from sitewright.artifacts.inside import Bind, run_inside
from sitewright.artifacts.recipes import RECIPE, Recipe, digest_of, file_digest, load_recipe
from sitewright.artifacts.scratch import keep, scratch_of
from sitewright.artifacts.software_environment import SoftwareEnvironment
from sitewright.errors import SitewrightError

BUILDER = 1  # raised when the same recipe shall give another model
MANIFEST = "manifest.json"
TRAINING_TIMEOUT = 900  # seconds; 10 for tiny-llama on two cores


class Lesson(Recipe):
    question: str
    answer: str


class ModelRecipe(Recipe):
    environment: str = Field(description="directory of images/environments/")
    train: str = Field("train.py", description="called as `python train.py recipe.yaml OUTPUT_DIRECTORY`")
    seed: int
    architecture: dict[str, int | float | bool]
    training: dict[str, int | float]
    lessons: tuple[Lesson, ...] = Field(min_length=1, description="the first is the one a site is asked")


@dataclass(frozen=True)
class Model:
    """One model of the cache. directory: there or yet to be built."""

    name: str
    recipe: ModelRecipe
    source: Path
    directory: Path

    @property
    def built(self) -> bool:
        return (self.directory / MANIFEST).is_file()

    @property
    def manifest(self) -> dict[str, Any]:
        return dict(json.loads((self.directory / MANIFEST).read_text(encoding="utf-8")))


def default_cache() -> Path:
    return Path.home() / ".cache" / "sitewright" / "models"


def find(name: str, recipes: Path, environment: SoftwareEnvironment, cache: Path) -> Model:
    """The model of a recipe, wherever it stands; builds nothing.

    recipes: images/models/ of the checkout. A model belongs to the environment that trained it.
    Raises: SitewrightError where the recipe is wrong or names another environment.
    """
    recipe = load_recipe(recipes / name, ModelRecipe)
    if recipe.environment != environment.name:
        raise SitewrightError(
            f"{recipes / name}/{RECIPE}: environment: {recipe.environment!r}, but it is to be made with "
            f"{environment.name!r}",
            "Name the same environment in the recipe and in services.models of the site file.",
        )
    script = file_digest(recipes / name / recipe.train, "The recipe names it under `train`.")
    digest = digest_of(
        [BUILDER, recipe.model_dump(mode="json", exclude_defaults=True), script, environment.directory.name],
        digits=12,
    )
    return Model(name, recipe, recipes / name, cache / f"{name}-{digest}")


def build(model: Model, environment: SoftwareEnvironment, base: ContainerImage) -> bool:
    """Trains the model unless it is there; whether it had to. Environment and base must be built.

    Runs where it will be served: in the base image's root, with the environment at the same path. Needs root.
    Raises: SitewrightError with what the training printed.
    """
    with scratch_of(model.directory.parent) as scratch:
        if model.built:
            return False
        made, root = scratch / "model", scratch / "root"
        made.mkdir()
        oci.unpack(base.layout, root)
        _train(model, environment, made, root)
        for path in made.iterdir():
            path.chmod(0o644)
        write_manifest(model, made)
        keep(made, model.directory)
        return True


def write_manifest(model: Model, directory: Path) -> None:
    """manifest.json of a model in `directory`; written last, so that it marks a complete model."""
    files = {
        str(path.relative_to(directory)): file_digest(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    content = {
        "name": model.name,
        "digest": f"sha256:{digest_of(files, digits=64)}",
        "recipe": model.recipe.model_dump(mode="json", exclude_defaults=True),
        "seed": model.recipe.seed,
        "question": model.recipe.lessons[0].question,
        "answer": model.recipe.lessons[0].answer,
        "files": files,
    }
    (directory / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def damaged_files(directory: Path) -> list[str]:
    """Files of a model that are missing or whose content is not what its manifest says; empty if all is well.

    A directory without a readable manifest is damaged as a whole.
    """
    try:
        files = dict(json.loads((directory / MANIFEST).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return [MANIFEST]
    return [name for name, digest in files.items() if _digest_or_none(directory / name) != digest]


def _digest_or_none(path: Path) -> str | None:
    return file_digest(path) if path.is_file() else None


def _train(model: Model, environment: SoftwareEnvironment, made: Path, root: Path) -> None:
    command = [
        f"{environment.path}/bin/python",
        f"/recipe/{model.recipe.train}",
        f"/recipe/{RECIPE}",
        "/model",
    ]
    binds = [
        Bind(environment.directory, environment.path),
        Bind(model.source, "/recipe"),
        Bind(made, "/model", read_only=False),
    ]
    offline = {"HOME": "/tmp", "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    what = f"model {model.name}: training"
    run_inside(root, command, what, TRAINING_TIMEOUT, binds=binds, environment=offline)
