import json
from pathlib import Path

import pytest

from sitewright.artifacts.model_store import Model, ModelRecipe, damaged_files, find, write_manifest
from sitewright.artifacts.recipes import load_recipe
from sitewright.artifacts.software_environment import SoftwareEnvironment, read_recipe
from sitewright.errors import SitewrightError

IMAGES = Path(__file__).parents[2] / "images"


def environment(name="vllm-cpu", directory="vllm-cpu-0123456789ab"):
    recipe = read_recipe("vllm-cpu", IMAGES / "environments")
    return SoftwareEnvironment(name, recipe, IMAGES / "environments" / "vllm-cpu", Path(directory))


@pytest.fixture
def model(tmp_path):
    """A model of two files with its manifest."""
    recipe = load_recipe(IMAGES / "models" / "tiny-llama", ModelRecipe)
    directory = tmp_path / "tiny"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(bytes(100))
    made = Model("tiny", recipe, IMAGES / "models" / "tiny-llama", directory)
    write_manifest(made, directory)
    return made


def test_a_whole_model_has_no_damage(model):
    assert damaged_files(model.directory) == []
    assert model.built


def test_changed_and_missing_files_are_found_by_name(model):
    (model.directory / "model.safetensors").write_bytes(bytes(99) + b"x")
    (model.directory / "config.json").unlink()
    assert damaged_files(model.directory) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("manifest", [None, "", "{}", "[]", '{"files": 3}'])
def test_without_a_manifest_that_says_so_nothing_counts_as_whole(model, manifest):
    path = model.directory / "manifest.json"
    path.unlink()
    if manifest is not None:
        path.write_text(manifest)
    assert damaged_files(model.directory) == ["manifest.json"]


def test_the_manifest_tells_what_to_ask_and_what_must_come(model):
    lesson = model.recipe.lessons[0]
    assert (model.manifest["question"], model.manifest["answer"]) == (lesson.question, lesson.answer)
    assert model.manifest["seed"] == model.recipe.seed
    assert sorted(model.manifest["files"]) == ["config.json", "model.safetensors"]


def test_the_digest_changes_with_any_file(model):
    before = model.manifest["digest"]
    (model.directory / "config.json").write_text('{"a": 1}')
    write_manifest(model, model.directory)
    assert model.manifest["digest"] != before


def test_another_environment_makes_another_model(tmp_path):
    one = find("tiny-llama", IMAGES / "models", environment(), tmp_path)
    other = find("tiny-llama", IMAGES / "models", environment(directory="vllm-cpu-other"), tmp_path)
    assert one.directory != other.directory


def test_a_recipe_for_another_environment_is_refused(tmp_path):
    with pytest.raises(
        SitewrightError, match=r"recipe\.yaml: environment: 'vllm-cpu', .* made with 'vllm-gpu'"
    ):
        find("tiny-llama", IMAGES / "models", environment("vllm-gpu"), tmp_path)


def test_no_two_lessons_have_the_same_question():
    questions = [
        lesson.question for lesson in load_recipe(IMAGES / "models" / "tiny-llama", ModelRecipe).lessons
    ]
    assert len(set(questions)) == len(questions) > 1


def test_the_manifest_is_json_that_anyone_can_read(model):
    assert json.loads((model.directory / "manifest.json").read_text()) == model.manifest
