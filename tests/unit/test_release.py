"""Which adapter answers under an alias: the change of the site file, and what is refused."""

import difflib
from pathlib import Path

import pytest
from click.testing import CliRunner

from sitewright.cli import main
from sitewright.errors import SitewrightError
from sitewright.site import SiteFileError, edit, load
from sitewright.tuning import release
from sitewright.tuning.adapters import CONFIG
from tests.unit.lab_site import plan_below


@pytest.fixture
def site_file(tmp_path) -> Path:
    """The lab's site file, with two versions of an adapter of `tiny` on its shared file system."""
    site = plan_below(tmp_path).site
    for version in ("alps--v1", "alps--v2"):
        directory = Path(site.shared_filesystem.publish_dir) / "adapters/tiny" / version
        directory.mkdir(parents=True)
        (directory / CONFIG).write_text("{}")
    assert site.file is not None
    return site.file


def do(step, site_file: Path, *arguments) -> str:
    change = step(load(site_file), *arguments)
    change.make()
    return change.said


def shares(site_file: Path) -> list[tuple[str | None, int]]:
    gateway = load(site_file).services.gateway
    assert gateway is not None
    [alias] = gateway.aliases
    return [(target.adapter, target.weight) for target in alias.targets]


def test_from_the_model_over_a_trial_to_the_next_version_and_back(site_file):
    assert do(release.promote, site_file, "assistant", "tiny") == "assistant: 100 % tiny"
    assert do(release.canary, site_file, "assistant", "alps--v1", 20) == "assistant: 80 % tiny, 20 % alps--v1"
    assert shares(site_file) == [(None, 80), ("alps--v1", 20)]
    do(release.canary, site_file, "assistant", "alps--v1", 50)
    assert shares(site_file) == [(None, 50), ("alps--v1", 50)]
    do(release.promote, site_file, "assistant", None)
    assert shares(site_file) == [("alps--v1", 1)]
    do(release.canary, site_file, "assistant", "alps--v2", 5)
    do(release.rollback, site_file, "assistant", None)
    assert shares(site_file) == [("alps--v1", 1)]
    do(release.promote, site_file, "assistant", "alps--v2")
    do(release.rollback, site_file, "assistant", "alps--v1")
    assert shares(site_file) == [("alps--v1", 1)]


def test_no_other_line_of_the_file_changes(site_file):
    before = site_file.read_text().splitlines()
    do(release.promote, site_file, "assistant", "alps--v1")
    do(release.canary, site_file, "assistant", "alps--v2", 10)
    do(release.promote, site_file, "second", "tiny")
    changed = [
        line[2:]
        for line in difflib.ndiff(before, site_file.read_text().splitlines())
        if line[:2] in ("+ ", "- ")
    ]
    assert changed == [
        "    aliases:",
        "      - name: assistant",
        "        targets:",
        "          - {model: tiny, adapter: alps--v1, weight: 90}",
        "          - {model: tiny, adapter: alps--v2, weight: 10}",
        "      - name: second",
        "        targets:",
        "          - {model: tiny, weight: 1}",
    ]


@pytest.mark.parametrize(
    ("step", "arguments", "message"),
    [
        (release.canary, ("other", "alps--v1", 5), "no alias 'other'; there is assistant"),
        (release.canary, ("assistant", "alps--v3", 5), "'alps--v3' is no published adapter and no model"),
        (release.canary, ("assistant", "alps--v1", 5), "alps--v1 is what answers under assistant already"),
        (release.promote, ("assistant", None), "assistant: nothing is on trial"),
        (release.promote, ("other", None), "no alias 'other'"),
        (release.promote, ("assistant", "../x"), "is no published adapter"),
        (release.rollback, ("assistant", None), "assistant: nothing is on trial"),
    ],
)
def test_a_step_that_cannot_be_is_refused_and_changes_nothing(site_file, step, arguments, message):
    do(release.promote, site_file, "assistant", "alps--v1")
    before = site_file.read_text()
    with pytest.raises(SitewrightError, match=message):
        do(step, site_file, *arguments)
    assert site_file.read_text() == before


def test_one_trial_at_a_time(site_file):
    do(release.promote, site_file, "assistant", "tiny")
    do(release.canary, site_file, "assistant", "alps--v1", 5)
    with pytest.raises(SitewrightError, match="assistant: alps--v1 is on trial"):
        do(release.canary, site_file, "assistant", "alps--v2", 5)


def test_a_change_that_makes_no_valid_site_is_taken_back(site_file):
    before = site_file.read_text()
    with pytest.raises(SiteFileError, match="aliases"):
        edit.write(site_file, edit.with_item(before, release.ALIASES, {"name": "x", "targets": []}))
    assert site_file.read_text() == before
    assert list(site_file.parent.glob(f".{site_file.name}-*")) == []


def test_aliases_of_a_file_that_is_extended_are_not_replaced(site_file):
    do(release.promote, site_file, "assistant", "tiny")
    base = site_file.rename(site_file.with_name("base.yaml"))
    site_file.write_text("extends: base.yaml\nname: lab\n")
    with pytest.raises(SitewrightError, match=r"is in a file that .*lab\.yaml extends"):
        do(release.promote, site_file, "second", "tiny")
    with pytest.raises(SitewrightError, match="is not in this file"):
        do(release.promote, site_file, "assistant", "alps--v1")
    assert "name: second" not in base.read_text() + site_file.read_text()


@pytest.mark.parametrize(
    ("text", "loc", "value", "after"),
    [
        ("a:\n  b: 1  # one\n  c: 2\n", ("a", "b"), 3, "a:\n  b: 3  # one\n  c: 2\n"),
        ("a:\n  b: [x]  # one\nc: 2\n", ("a", "b"), ["y"], "a:\n  b: [y]  # one\nc: 2\n"),
        ("a:\n  b: 1  # one\n\nc: 2\n", ("a", "d"), 3, "a:\n  b: 1  # one\n  d: 3\n\nc: 2\n"),
        ("a:\n  b: 1", ("a", "d"), [{"e": [1]}], "a:\n  b: 1\n  d:\n    - e: [1]\n"),
        ("l:\n  - a: 1\n  - a: 2\n# end\n", ("l", 0, "a"), 9, "l:\n  - a: 9\n  - a: 2\n# end\n"),
    ],
)
def test_one_value_of_a_text_is_set(text, loc, value, after):
    assert edit.with_value(text, loc, value) == after


@pytest.mark.parametrize("text", ["a: {b: 1}\n", "a: {b: [1]}\n"])
def test_what_is_written_in_one_line_is_left_to_its_author(text):
    with pytest.raises(SitewrightError, match="a is written in one line"):
        edit.with_value(text, ("a", "c"), 1)


def test_the_command_shows_the_change_and_what_comes_next(site_file):
    run = CliRunner()
    before = site_file.read_text()
    shown = run.invoke(main, ["adapters", "promote", str(site_file), "assistant", "alps--v1", "--dry-run"])
    assert "+          - {model: tiny, adapter: alps--v1, weight: 1}" in shown.output
    assert "nothing was changed" in shown.output
    assert site_file.read_text() == before
    done = run.invoke(main, ["adapters", "promote", str(site_file), "assistant", "alps--v1"])
    assert (done.exit_code, "Next: pulumi up" in done.output) == (0, True)
    refused = run.invoke(main, ["adapters", "canary", str(site_file), "assistant", "x", "--percent", "0"])
    assert refused.exit_code == 2
