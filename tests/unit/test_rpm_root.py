"""Roots of RPM packages: the commands are the recorded ones. They were never run."""

import shlex
from pathlib import Path

import golden
import pytest
import yaml

from sitewright.artifacts import rpm
from sitewright.artifacts.boot_recipe import BootRecipe
from sitewright.artifacts.recipes import load_recipe
from sitewright.artifacts.sbom import Package, inventory, spdx
from sitewright.errors import SitewrightError


@pytest.mark.parametrize("case", golden.cases("rpm_root"), ids=lambda path: path.name)
def test_the_commands_are_the_recorded_ones(case):
    found = rpm.commands(Path("/new/root"), load_recipe(case, BootRecipe))
    golden.check(case / "commands.txt", "".join(f"{shlex.join(command)}\n" for command in found))


def test_a_command_that_fails_ends_it_with_what_it_said(tmp_path, monkeypatch):
    recipe = load_recipe(golden.DATA / "rpm_root/sles", BootRecipe)
    monkeypatch.setattr(
        rpm, "commands", lambda root, recipe: [["echo", "one"], ["sh", "-c", "echo no such; exit 8"]]
    )
    monkeypatch.setattr(rpm, "run_together", rpm_without_namespaces)
    with pytest.raises(SitewrightError, match=r"(?s)sles root in .*exit status 8\nno such"):
        rpm.make_root(tmp_path / "root", recipe)


def rpm_without_namespaces(command, what, timeout):
    from sitewright.artifacts.inside import run

    return run(command, what, timeout)


def test_what_rpm_lists_becomes_a_bill_of_materials():
    printed = "bash\t5.1.8-9.el9\tx86_64\tRed Hat, Inc.\n"
    recipe = load_recipe(golden.DATA / "rpm_root/rhel", BootRecipe)
    assert recipe.query[0] == "rpm"
    assert inventory(printed) == [Package("bash", "5.1.8-9.el9", "x86_64", "Red Hat, Inc.")]
    [_, bash] = spdx("gpu", recipe.date, recipe.distribution, recipe.release, inventory(printed), {})[
        "packages"
    ]
    assert bash["externalRefs"][0]["referenceLocator"] == (
        "pkg:rpm/rhel/bash@5.1.8-9.el9?arch=x86_64&distro=rhel-9"
    )


@pytest.mark.parametrize(
    ("case", "repositories", "message"),
    [
        ("rhel", [], "repositories: REQUIRED for rhel"),
        (
            "rhel",
            [{"name": "a,b", "url": "http://m", "key": "/k"}],
            r"repositories.0.name: String should match",
        ),
        ("rhel", [{"name": "a", "url": "http://m"}], r"repositories.0.key: Field required"),
    ],
)
def test_repositories_that_cannot_be_are_refused(tmp_path, case, repositories, message):
    recipe = yaml.safe_load((golden.DATA / "rpm_root" / case / "recipe.yaml").read_text())
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"repositories": repositories}))
    with pytest.raises(SitewrightError, match=message):
        load_recipe(tmp_path, BootRecipe)
