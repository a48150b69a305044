"""Faulty site files: every problem, word for word, in one run; never a traceback.

Each `tests/data/invalid/<case>.yaml` has its messages in `<case>.txt`. A new case is two new files.
"""

import copy
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sitewright.site import SiteFileError, load
from sitewright.site.files import REPOSITORY

CASES = sorted((REPOSITORY / "tests/data/invalid").glob("*.yaml"))
BASE = REPOSITORY / "tests/data/site/base.yaml"
WRONG = (None, 5, "x", {"a": [1]}, [{}])


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_the_problems_of_a_faulty_file_are_the_recorded_ones(case):
    with pytest.raises(SiteFileError) as refused:
        load(case)
    assert refused.value.message.splitlines() == case.with_suffix(".txt").read_text().splitlines()
    assert refused.value.exit_status == 2
    assert "Nothing was changed" in refused.value.hint


def test_the_base_of_the_faulty_files_is_valid():
    assert len(load(BASE).nodes) == 8
    assert load(BASE).warnings == ()


def test_a_wrong_value_anywhere_is_a_problem_and_never_a_crash(tmp_path):
    reader, writer = YAML(typ="safe", pure=True), YAML(typ="safe")
    valid = reader.load(BASE.read_text())
    path = tmp_path / BASE.name
    refused = 0
    for number, loc in enumerate(list(_places(valid))[::2]):
        data = copy.deepcopy(valid)
        container = data
        for part in loc[:-1]:
            container = container[part]
        container[loc[-1]] = WRONG[number % len(WRONG)]
        with path.open("w") as stream:
            writer.dump(data, stream)
        try:
            load(path)
        except SiteFileError as error:
            refused += 1
            assert all(problem.position.file == path for problem in error.problems)
    assert refused > 20


def _places(data, loc=()):
    for part in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield (*loc, part)
        yield from _places(data[part], (*loc, part))


def test_an_unknown_environment_is_refused_with_the_nearest_name(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SiteFileError, match=r"no environment 'lap'.*did you mean 'lab'"):
        load("lap")


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path):
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(SiteFileError, match=r"binary.yaml:1:1: not UTF-8: byte 6"):
        load(binary)
    with pytest.raises(SiteFileError, match="no environment"):
        load(tmp_path / "absent.yaml")
