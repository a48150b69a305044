"""Recipes of boot images: what they may say, and that those of the repository are valid."""

from pathlib import Path

import pytest
import yaml

from sitewright.artifacts.boot_recipe import BootRecipe
from sitewright.artifacts.recipes import load_recipe
from sitewright.errors import SitewrightError

RECIPES = Path(__file__).parents[2] / "images/boot"


@pytest.mark.parametrize("directory", sorted(RECIPES.iterdir()), ids=lambda path: path.name)
def test_a_recipe_of_the_repository_is_valid(directory):
    assert load_recipe(directory, BootRecipe).check


def test_the_time_of_all_files_is_the_date_of_the_packages():
    recipe = load_recipe(RECIPES / "compute", BootRecipe)
    assert recipe.model_copy(update={"date": recipe.date.replace(2025, 1, 1)}).epoch == 1735689600


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("package", ["jq"], "package: Extra inputs"),
        ("date", "yesterday", "date: Input should be a valid date"),
        ("distribution", "arch", "distribution: Input should be"),
        ("size_budget", "400", "size_budget: String should match"),
        ("check", [], "check: .*at least 1 item"),
        ("packages", ["jq; reboot"], "packages.0: String should match"),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_name(tmp_path, key, value, message):
    recipe = yaml.safe_load((RECIPES / "compute/recipe.yaml").read_text()) | {key: value}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(SitewrightError, match=message):
        load_recipe(tmp_path, BootRecipe)
