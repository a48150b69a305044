"""What is legal about booting, and told all the same."""

import re

import pytest

from sitewright.site import boot_recipe, load
from sitewright.site.files import REPOSITORY

BASE = REPOSITORY / "tests/data/site/base.yaml"


@pytest.fixture
def warnings(tmp_path, monkeypatch):
    """Of a pool with this memory whose image has this recipe."""

    def of(memory: str, recipe: str | None, *arguments: str) -> list[str]:
        monkeypatch.setattr(boot_recipe, "REPOSITORY", tmp_path)
        directory = tmp_path / "images/boot/compute"
        directory.mkdir(parents=True, exist_ok=True)
        if recipe is not None:
            (directory / "recipe.yaml").write_text(recipe)
        text = BASE.read_text()
        assert "memory: 64Gi, gpus: 4}" in text and "memory: 16Gi," in text
        pool = f"memory: {memory}, gpus: 4, kernel_arguments: [{', '.join(arguments)}]}}"
        text = text.replace("memory: 64Gi, gpus: 4}", pool).replace("memory: 16Gi,", "memory: 512Mi,")
        (tmp_path / "base.yaml").write_text(text)
        return [warning.message for warning in load(tmp_path / "base.yaml").warnings]

    return of


def test_an_image_that_does_not_fit_into_run_is_told_with_both_sizes(warnings):
    """dracutdevs/dracut#2550: the copy filled /run, and the mount failed with another message."""
    [said] = warnings("4000M", "size_budget: 1500M", "rd.live.ram=1")
    assert "image 'compute' may have 1,431 MiB" in said
    assert "a node of 3,815 MiB has about 763 MiB" in said


@pytest.mark.parametrize(
    ("memory", "recipe", "arguments"),
    [
        ("512Gi", "size_budget: 1500M", ["rd.live.ram=1"]),
        ("4000M", "size_budget: 1500M", []),
        ("4000M", "size_budget: 1500M", ["rd.live.ram=0"]),
        ("4000M", "{", ["rd.live.ram=1"]),
        ("4000M", "size_budget: much", ["rd.live.ram=1"]),
        ("4000M", "[]", ["rd.live.ram=1"]),
        ("4000M", None, ["rd.live.ram=1"]),
    ],
)
def test_what_fits_or_cannot_be_known_is_no_warning(warnings, memory, recipe, arguments):
    assert warnings(memory, recipe, *arguments) == []


def test_the_recipe_may_say_so_itself(warnings):
    assert len(warnings("4000M", "size_budget: 1500M\nkernel_arguments: [rd.live.ram=1]\n")) == 1


def test_a_site_that_signs_no_image_is_warned(tmp_path):
    text = BASE.read_text()
    assert ", signing_key: images.key" in text
    (tmp_path / "base.yaml").write_text(text.replace(", signing_key: images.key", ""))
    [warning] = load(tmp_path / "base.yaml").warnings
    assert "image_server: no signing_key: boot images are not signed" in str(warning)


BSS = '"http://10.1.0.1:27778"'


def test_a_site_without_bss_is_told_what_its_nodes_prove_less(tmp_path):
    text = BASE.read_text()
    assert f"bss: {BSS}" in text
    (tmp_path / "base.yaml").write_text(text.replace(f"bss: {BSS}", f"boot_service: {BSS}"))
    [warning] = load(tmp_path / "base.yaml").warnings
    assert (
        "provisioner.boot_service: keeps no record of fetched boot scripts, so nodes say themselves"
        in str(warning)
    )
    assert "docs/node-identity.md, Without BSS" in str(warning)
    assert "\n\n## Without BSS\n" in (REPOSITORY / "docs/node-identity.md").read_text()


def test_a_site_without_bss_and_without_pools_has_nothing_to_prove(tmp_path):
    text = BASE.read_text().replace(f"bss: {BSS}", f"boot_service: {BSS}")
    kept = re.sub(r"(?ms)^(pools|services|boot_images):.*?(?=^\S|\Z)", "", text)
    (tmp_path / "base.yaml").write_text(kept)
    assert load(tmp_path / "base.yaml").warnings == ()
