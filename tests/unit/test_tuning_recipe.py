"""What a recipe says and refuses. A case is a folder of tests/data/tuning/recipe, with what comes of it."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from modules.inference.vllm_pod import MAX_LORA_RANK
from sitewright.site.problems import SiteFileError
from sitewright.tuning.recipe import MAX_RANK, Lora, Recipe, load
from tests.unit import golden

CASES = golden.cases("tuning/recipe")
GIVEN = {"method": "lora", "steps": 10, "learning_rate": 2e-4, "batch_size": 4, "max_length": 2048}


def recipe(**more) -> Recipe:
    return Recipe.model_validate({**GIVEN, **more})


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_what_comes_of_a_recipe_is_the_recorded(case, monkeypatch):
    monkeypatch.chdir(case)
    try:
        said = json.dumps(load(Path("recipe.yaml")).model_dump(mode="json"), indent=2)
    except SiteFileError as error:
        said = str(error)
    golden.check(case / "said.txt", said.replace(f"{case.relative_to(golden.DATA.parents[1])}/", "") + "\n")


def test_all_problems_of_a_recipe_are_named_at_once_and_with_their_lines():
    [case] = [path for path in CASES if path.name == "numbers-out-of-range"]
    with pytest.raises(SiteFileError) as refused:
        load(case / "recipe.yaml")
    assert [problem.position.line for problem in refused.value.problems] == [*range(2, 12), 12, 12]
    assert refused.value.exit_status == 2


def test_a_recipe_comes_back_from_a_request_as_it_was():
    for given in (recipe(), recipe(lora={"target_modules": ["q_proj"]}), recipe(method="full")):
        assert Recipe.model_validate_json(given.model_dump_json()) == given
        assert Recipe.model_validate(json.loads(given.model_dump_json())) == given


def test_an_adapter_has_its_defaults_and_full_tuning_has_no_adapter():
    assert recipe().lora == Lora(rank=16, alpha=32, dropout=0.0, target_modules="all-linear")
    assert recipe(lora=None).lora == Lora()
    assert recipe(method="full").lora is None


def test_the_highest_rank_is_the_one_that_models_are_served_with():
    """A higher one is refused by vLLM only when the adapter is loaded (gpustack issue 5438)."""
    assert MAX_RANK == MAX_LORA_RANK
    assert Lora(rank=MAX_RANK).rank == MAX_RANK


@pytest.mark.parametrize(("rank", "near"), [(3, 4), (5, 8), (24, 32), (48, 64), (63, 64), (0, 1), (-4, 1)])
def test_a_rank_between_is_refused_with_the_one_to_take(rank, near):
    with pytest.raises(ValidationError, match=f"rank {rank} is no power of two; .*, so take {near}"):
        Lora(rank=rank)


@pytest.mark.parametrize("rank", [1, 2, 4, 8, 16, 32, 64])
def test_a_power_of_two_is_taken(rank):
    assert Lora(rank=rank).rank == rank


@pytest.mark.parametrize("rate", [1e-7, 1e-2])
def test_the_ends_of_the_range_of_learning_rates_are_allowed(rate):
    assert recipe(learning_rate=rate).learning_rate == rate


def test_a_recipe_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SiteFileError, match=r"nowhere\.yaml:1:1: cannot be read: No such file"):
        load(tmp_path / "nowhere.yaml")
