import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sitewright.artifacts import software_environment
from sitewright.artifacts.container_images import ContainerImage
from sitewright.artifacts.container_recipe import ContainerRecipe
from sitewright.artifacts.scratch import require_space, scratch_of
from sitewright.artifacts.software_environment import EnvironmentRecipe, find
from sitewright.errors import SitewrightError

RECIPES = Path(__file__).parents[2] / "images" / "environments"
PYTHON = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"


def recipe(**changes):
    return {
        "base": "base",
        "python": PYTHON,
        "build_gib": 1,
        "checks": [{"run": ["python", "--version"]}],
        **changes,
    }


@pytest.fixture
def place(tmp_path):
    directory = tmp_path / "environments" / "small"
    directory.mkdir(parents=True)
    (directory / "recipe.yaml").write_text(yaml.safe_dump(recipe()))
    (directory / "requirements.txt").write_text("small==1 --hash=sha256:00\n")
    return tmp_path


def base(place, layout="base-1"):
    content = {"repository": "base", "tags": ["v1"], "checks": [{"run": ["true"]}]}
    return ContainerImage("base", ContainerRecipe.model_validate(content), place / layout)


def found(place, layout="base-1"):
    return find("small", place / "environments", base(place, layout), place / "cache")


def test_its_name_follows_from_recipe_lock_and_base_image(place):
    before = found(place).directory
    assert found(place).directory == before
    assert found(place, "base-2").directory != before
    (place / "environments" / "small" / "requirements.txt").write_text("small==2 --hash=sha256:00\n")
    assert found(place).directory != before


def test_containers_see_it_under_its_name_and_digest(place):
    environment = found(place)
    assert environment.path == f"/shared/environments/{environment.directory.name}"
    assert environment.directory.name.startswith("small-")
    assert not environment.built


def test_a_missing_lock_is_named(place):
    (place / "environments" / "small" / "requirements.txt").unlink()
    with pytest.raises(SitewrightError, match=r"small/requirements.txt: No such file"):
        found(place)


def test_its_python_is_the_interpreter_of_the_base_with_the_new_library(tmp_path):
    made = tmp_path / "environment"
    software_environment._lay_out(EnvironmentRecipe.model_validate(recipe()), made)
    (
        software_environment._site_packages(EnvironmentRecipe.model_validate(recipe()), made) / "only_here.py"
    ).write_text("ANSWER = 42")
    moved = tmp_path / "elsewhere"
    made.rename(moved)
    program = "import only_here, sys; print(only_here.ANSWER, sys.prefix)"
    printed = subprocess.check_output([moved / "bin" / "python", "-c", program], text=True)
    assert printed.split() == ["42", str(moved)]


def test_only_what_is_there_can_be_pruned(place, tmp_path):
    environment = found(place)
    environment = software_environment.SoftwareEnvironment(
        environment.name,
        EnvironmentRecipe.model_validate(recipe(prune=["big/*.so", "gone"])),
        environment.source,
        environment.directory,
    )
    packages = software_environment._site_packages(environment.recipe, tmp_path / "made")
    (packages / "big").mkdir(parents=True)
    (packages / "big" / "lib.so").touch()
    (packages / "big" / "lib.py").touch()
    with pytest.raises(SitewrightError, match=r"small/recipe.yaml: prune: nothing is named gone"):
        software_environment._prune(environment, tmp_path / "made")
    assert [path.name for path in (packages / "big").iterdir()] == ["lib.py"]


@pytest.mark.parametrize("pattern", ["/etc", "../other", "a/../../b"])
def test_pruning_stays_below_site_packages(pattern):
    with pytest.raises(ValueError, match="must be a path below the directory"):
        EnvironmentRecipe.model_validate(recipe(prune=[pattern]))


def test_the_vllm_environment_is_locked_whole_and_leaves_out_what_only_gpus_use():
    text = (RECIPES / "vllm-cpu" / "requirements.txt").read_text()
    pinned = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert all("==" in line and line.endswith("\\") for line in pinned)
    names = {line.partition("==")[0] for line in pinned}
    assert {"vllm-cpu", "torch", "transformers"} <= names
    assert "triton" not in names
    assert "://" not in text


def test_too_little_room_is_said_with_both_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100 * 2**30, 97 * 2**30, 3 * 2**30)
    )
    with pytest.raises(
        SitewrightError, match=r"environment big: .*yet has 3\.0 GiB free, 10\.0 GiB are needed"
    ):
        require_space(tmp_path / "not" / "yet", 10, "environment big")


def test_scratch_is_empty_at_the_beginning_and_gone_at_the_end(tmp_path):
    (tmp_path / ".building" / "left over").mkdir(parents=True)
    with pytest.raises(RuntimeError), scratch_of(tmp_path) as scratch:
        assert list(scratch.iterdir()) == []
        (scratch / "half").touch()
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
