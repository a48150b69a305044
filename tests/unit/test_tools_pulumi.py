"""The Pulumi glue without an engine: launchers, plugin links, and the table of random resources."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sitewright.errors import SitewrightError
from tools.environment import link_plugins, plugin_versions
from tools.launchers import write_launcher
from tools.pulumi_glue.random_provider import generate
from tools.pulumi_glue.random_provider.kinds import KINDS
from tools.pulumi_glue.random_provider.provider import differences

PASSWORD = KINDS["random:index/randomPassword:RandomPassword"]
INTEGER = KINDS["random:index/randomInteger:RandomInteger"]
IDENTITY = KINDS["random:index/randomId:RandomId"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose Python prints its own path and arguments."""
    python = tmp_path / "checkout" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$0 $*"\n')
    python.chmod(0o755)
    (tmp_path / "checkout" / "Pulumi.yaml").touch()
    (tmp_path / "checkout" / "stacks").mkdir()
    site_packages = tmp_path / "checkout" / ".venv" / "lib" / "python3.11" / "site-packages"
    (site_packages / "sitewright-0.1.0.dist-info").mkdir(parents=True)
    return tmp_path / "checkout"


def launch(tmp_path: Path, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    write_launcher(tmp_path, "pulumi-language-python")
    return subprocess.run(
        [tmp_path / "pulumi-language-python", "127.0.0.1:1"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("way", ["parent", "SITEWRIGHT_REPO", "SITEWRIGHT_PYTHON", "VIRTUAL_ENV"])
def test_a_launcher_finds_the_checkout(tmp_path, checkout, way):
    python = checkout / ".venv" / "bin" / "python"
    named = {"SITEWRIGHT_REPO": checkout, "SITEWRIGHT_PYTHON": python, "VIRTUAL_ENV": checkout / ".venv"}
    if way == "parent":
        done = launch(tmp_path, checkout / "stacks")
    else:
        done = launch(tmp_path, tmp_path, **{way: str(named[way])})
    assert done.stdout == f"{python} -P -m tools.pulumi_glue.language_host 127.0.0.1:1\n"


def test_a_launcher_ignores_an_environment_without_sitewright_and_says_what_it_looked_for(tmp_path):
    (tmp_path / "other" / "bin").mkdir(parents=True)
    done = launch(tmp_path, tmp_path, VIRTUAL_ENV=str(tmp_path / "other"))
    assert done.returncode == 1
    assert "pulumi-language-python: no Python of a sitewright checkout" in done.stderr
    assert f"looked from {tmp_path} upwards" in done.stderr
    assert "uv sync" in done.stderr


def test_plugins_are_linked_where_pulumi_looks_and_an_installed_one_is_left(tmp_path):
    versions = plugin_versions()
    installed = tmp_path / "plugins" / f"resource-random-v{versions['random']}" / "pulumi-resource-random"
    installed.parent.mkdir(parents=True)
    installed.write_text("the official one")
    for programs in (tmp_path / "old", tmp_path / "new"):
        link_plugins(programs, tmp_path)
    kubernetes = tmp_path / "plugins" / f"resource-kubernetes-v{versions['kubernetes']}"
    link = kubernetes / "pulumi-resource-kubernetes"
    assert link.readlink() == tmp_path / "new" / "pulumi-resource-kubernetes"
    assert list(kubernetes.iterdir()) == [link]
    assert installed.read_text() == "the official one"


@pytest.mark.parametrize(
    ("inputs", "property_name", "reason"),
    [
        ({"length": 0}, "length", "0 is below 1"),
        ({"length": 3, "minUpper": 2, "minLower": 2}, "length", "3 is below 4, the sum of"),
        (
            {"length": 4, "upper": False, "lower": False, "numeric": False, "special": False},
            "special",
            "no char",
        ),
        ({"length": "four"}, "length", "'four' is not a whole number"),
        ({"length": 4, "lenght": 5}, "lenght", "not a property of this resource; it takes keepers, length"),
    ],
)
def test_a_wrong_input_of_a_password_is_refused_by_name(inputs, property_name, reason):
    [(name, found)] = PASSWORD.problems(inputs)
    assert name == property_name
    assert reason in found


def test_number_and_numeric_are_one_switch():
    assert PASSWORD.complete({"length": 4, "number": False})["numeric"] is False
    assert PASSWORD.complete({"length": 4, "numeric": False, "number": True})["number"] is False
    assert PASSWORD.problems({"length": 4, "min": 1}) != []


def test_minimums_hold_and_switched_off_classes_do_not_appear():
    values = PASSWORD.complete({"length": 10, "minNumeric": 6, "upper": False, "special": False})
    for _ in range(50):
        text = generate.characters(values)
        assert len(text) == 10
        assert sum(character.isdigit() for character in text) >= 6
        assert text == text.lower()
        assert text.isalnum()


def test_a_state_of_the_official_provider_differs_in_nothing():
    state = {**PASSWORD.complete({"length": 8}), "result": "x", "bcryptHash": "y", "keepers": {}}
    assert differences(PASSWORD, state, {"length": 8}) == {}
    assert set(differences(PASSWORD, state, {"length": 9, "keepers": {"a": "1"}})) == {"length", "keepers"}
    assert differences(PASSWORD, state, {"length": 8, "keepers": {"a": None}}) == {}


def test_a_seed_gives_the_same_value_and_both_ends_of_a_range_are_drawn():
    assert generate.integer(1, 10**9, "seed") == generate.integer(1, 10**9, "seed")
    assert {generate.integer(1, 2, None) for _ in range(60)} == {1, 2}
    assert INTEGER.problems({"min": 3, "max": 2}) == [("min", "3 is above max 2")]


def test_more_items_than_there_are_come_in_whole_permutations():
    drawn = generate.permutation(["a", "b", "c"], 6, None)
    assert sorted(drawn[:3]) == sorted(drawn[3:]) == ["a", "b", "c"]
    assert generate.permutation([], 3, None) == []


def test_an_imported_id_has_all_its_forms():
    assert IDENTITY.adopt is not None
    made = IDENTITY.adopt("my-prefix-,p-9hUg")
    assert made.identifier == "p-9hUg"
    assert made.properties == {
        "byteLength": 4,
        "prefix": "my-prefix-",
        "b64Url": "my-prefix-p-9hUg",
        "b64Std": "my-prefix-p+9hUg==",
        "hex": "my-prefix-a7ef6152",
        "dec": "my-prefix-2817483090",
    }
    with pytest.raises(SitewrightError, match="not the b64Url"):
        IDENTITY.adopt("!!")
