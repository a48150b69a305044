import re
import shutil
from pathlib import Path

import pytest
import yaml

from sitewright.artifacts.container_images import build, find
from sitewright.artifacts.container_recipe import ContainerRecipe
from sitewright.artifacts.recipes import load_recipe
from sitewright.errors import SitewrightError
from tools import pins

RECIPES = Path(__file__).parents[2] / "images" / "containers"
KUBEADM = Path(__file__).parents[1] / "data" / "kubeadm" / "images-1.37.2.txt"
STATIC = "/sbin/ldconfig"  # the one static program that every Debian has


def recipe(**changes):
    return {
        "repository": "tool",
        "tags": ["v1"],
        "programs": {"/bin/tool": "tool"},
        "entrypoint": ["/bin/tool"],
        "checks": [{"run": ["/bin/tool", "--version"], "prints": "ldconfig"}],
        **changes,
    }


@pytest.fixture
def place(tmp_path):
    """Directories of recipes, tools and cache, with one recipe of one static program."""
    for name in ("recipes/tool", "tools", "cache"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(STATIC, tmp_path / "tools" / "tool")
    write(tmp_path, recipe())
    return tmp_path


def write(place, content):
    (place / "recipes" / "tool" / "recipe.yaml").write_text(yaml.safe_dump(content))


def found(place, name="tool"):
    return find(name, place / "recipes", place / "tools", place / "cache")


def test_an_image_is_built_once(place):
    assert build(found(place), place / "tools") is True
    assert build(found(place), place / "tools") is False
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", found(place).digest)


def test_another_program_makes_another_image(place):
    before = found(place).layout
    (place / "tools" / "tool").write_bytes(b"another")
    assert found(place).layout != before


def test_another_recipe_makes_another_image(place):
    before = found(place).layout
    write(place, recipe(user="1000"))
    assert found(place).layout != before


def test_a_failed_check_names_image_and_command_and_leaves_nothing(place):
    write(place, recipe(checks=[{"run": ["/bin/tool", "--version"], "prints": "v9.9.9"}]))
    with pytest.raises(
        SitewrightError, match=r"image tool: check `/bin/tool --version` printed .* lacks 'v9.9.9'"
    ):
        build(found(place), place / "tools")
    assert not found(place).built
    assert [path.name for path in (place / "cache").iterdir()] == ["lock"]


def test_a_program_that_is_not_built_is_named(place):
    (place / "tools" / "tool").unlink()
    with pytest.raises(SitewrightError, match=r"tools/tool: No such file or directory\n  Run `make tools`"):
        found(place)


def test_an_unknown_image_is_answered_with_those_there_are(place):
    with pytest.raises(
        SitewrightError, match=r"recipes/toool/recipe.yaml: no such recipe\n  There are: tool\."
    ):
        found(place, "toool")


def test_every_wrong_key_of_a_recipe_is_named_in_one_run(place):
    write(place, recipe(tags=[], entrypiont=["/bin/tool"]))
    with pytest.raises(SitewrightError) as caught:
        found(place)
    assert re.search(r"recipe\.yaml: tags: ", caught.value.message)
    assert re.search(r"recipe\.yaml: entrypiont: Extra inputs are not permitted", caught.value.message)


def recipes():
    return {
        path.parent.name: load_recipe(path.parent, ContainerRecipe) for path in RECIPES.glob("*/recipe.yaml")
    }


def test_every_image_that_kubeadm_asks_for_has_a_recipe():
    wanted = {line for line in KUBEADM.read_text().splitlines() if not line.startswith("#")}
    offered = {f"{item.repository}:{tag}" for item in recipes().values() for tag in item.tags}
    assert wanted - offered == set()


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("kube-apiserver", pins.KUBERNETES),
        ("kube-controller-manager", pins.KUBERNETES),
        ("kube-scheduler", pins.KUBERNETES),
        ("kube-proxy", pins.KUBERNETES),
        ("etcd", pins.ETCD),
        ("coredns", pins.COREDNS),
        ("kube-router", pins.KUBE_ROUTER),
        ("kueue", pins.KUEUE),
        ("pause", pins.PAUSE),
    ],
)
def test_the_first_tag_is_the_version_that_is_pinned(name, version):
    assert recipes()[name].tags[0].removeprefix("v") == version


def test_kube_proxy_and_kube_router_share_a_layer():
    assert recipes()["kube-proxy"].debian == recipes()["kube-router"].debian
