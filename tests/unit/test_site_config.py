"""`sitewright config`: what it prints and how it exits."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

import sitewright.cli
from sitewright.cli import main
from sitewright.errors import SitewrightError
from sitewright.site.files import REPOSITORY

INVALID = REPOSITORY / "tests/data/invalid"


@pytest.fixture
def run(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    return lambda *arguments: CliRunner().invoke(main, arguments)


def test_check_of_a_valid_file_says_so_and_what_comes_next(run):
    result = run("config", "check", "lab")
    assert result.exit_code == 0
    assert "lab is valid: 1 VM, 2 nodes in 1 pool, 1 cluster, 1 model" in result.output
    assert "Next: sitewright config show lab --origin" in result.output


def test_check_of_a_faulty_file_prints_all_problems_and_exits_with_2(run):
    result = run("config", "check", str(INVALID / "everything-at-once.yaml"))
    assert result.exit_code == 2
    for line in (INVALID / "everything-at-once.txt").read_text().splitlines():
        assert line in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_check_prints_warnings_and_exits_with_0(run, tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(
        f"extends: {REPOSITORY}/tests/data/site/base.yaml\nname: site\nboot_images: [{{name: compute}}, {{name: b}}]\n"
    )
    result = run("config", "check", str(path))
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert "'b' is used by no pool" in result.stderr


def test_a_traceback_comes_only_when_asked_for(run):
    assert "Traceback" in run("--debug", "config", "check", "nowhere").stderr
    assert "Traceback" not in run("config", "check", "nowhere").stderr


def test_show_prints_the_effective_file(run):
    shown = YAML(typ="safe").load(run("config", "show", "lab").stdout)
    assert shown["networks"][0]["gateway"] == "10.77.0.1"
    assert shown["pools"][0]["memory"] == "9Gi"
    assert "# environments/lab.yaml:" not in run("config", "show", "lab").stdout
    assert "# environments/lab.yaml:" in run("config", "show", "lab", "--origin").stdout
    assert run("config", "show", str(INVALID / "empty.yaml")).exit_code == 2


def test_the_schema_in_the_repository_is_the_one_of_the_model(run):
    assert (REPOSITORY / "environments/schema.json").read_text() == run("config", "schema").stdout


def test_the_schema_accepts_our_site_files_and_refuses_an_unknown_key(run):
    schema = Draft202012Validator(json.loads(run("config", "schema").stdout))
    for name in ("environments/lab", "environments/example-alps", "tests/data/site/base"):
        data = YAML(typ="safe", pure=True).load((REPOSITORY / f"{name}.yaml").read_text())
        assert schema.is_valid(data), name
        assert not schema.is_valid({**data, "netwroks": []})
    assert schema.is_valid({"extends": "base.yaml", "name": "site"})
    assert not schema.is_valid({"name": "site"})


@pytest.mark.parametrize(
    "command", [(), ("config",), ("config", "check"), ("config", "show"), ("config", "schema")]
)
def test_each_command_has_help_with_its_exit_status_and_an_example(run, command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    if command != ("config",):
        assert "Exit status:" in result.output
        assert "Example:" in result.output


def test_a_command_that_is_not_there_is_a_usage_error(run):
    result = run("confg")
    assert result.exit_code == 2
    assert "No such command 'confg'" in result.stderr


def test_a_command_is_imported_only_when_it_is_called(monkeypatch):
    assert "sitewright.cli.tools" not in _modules_after("--help")
    monkeypatch.setitem(sitewright.cli.COMMANDS, "not_built_yet", "…")
    assert "not_built_yet" not in main.list_commands(click.Context(main))


def _modules_after(argument: str) -> str:
    program = f"import sys; from sitewright.cli import main; main(['{argument}'], standalone_mode=False)"
    command = [sys.executable, "-c", f"{program}; print(*sys.modules)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_an_error_of_a_command_is_printed_with_its_hint_and_exits_with_1(run, monkeypatch):
    def fail(environment):
        raise SitewrightError("the disk is full", "Make room.")

    monkeypatch.setattr("sitewright.cli.config.load_with_origin", fail)
    result = run("config", "check", "lab")
    assert (result.exit_code, result.stderr) == (1, "the disk is full\n  Make room.\n")
