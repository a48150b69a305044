"""Inputs of a PlaybookRun: what is refused, and what counts as a change."""

from __future__ import annotations

from typing import Any

import pytest
from pulumi.provider.experimental.provider import PropertyDiffKind

from sitewright.provider.diffs import diff, needs_run
from sitewright.provider.inputs import host_pattern, problems, seconds
from sitewright.provider.values import UNKNOWN, to_property


def properties(**values: Any) -> dict[str, Any]:
    return {name: to_property(value) for name, value in values.items()}


GOOD = properties(playbook="playbooks/p.yml", variables={"a": 1}, timeout="10m", limit="x1000c0s[0-1]b0n0")


def test_good_inputs_pass() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("changed", "path", "reason"),
    [
        ({"playbook": None}, "playbook", "is required"),
        ({"playbook": ""}, "playbook", "must be a text that is not empty, not an empty text"),
        ({"playbook": "/etc/p.yml"}, "playbook", "must be a path below the repository"),
        ({"undo": "../p.yml"}, "undo", "must be a path below the repository"),
        ({"playbok": "p"}, "playbok", "is no input of PlaybookRun (did you mean 'playbook'?)"),
        ({"variables": ["a"]}, "variables", "must be a map, not a list"),
        ({"variables": {"my-var": 1}}, 'variables["my-var"]', "'my-var' is no name of an Ansible variable"),
        ({"variables": {"sitewright_tools": 1}}, "variables.sitewright_tools", "is set by sitewright"),
        ({"variables": {"sitewright_previous": {}}}, "variables.sitewright_previous", "is set by sitewright"),
        ({"files": "one"}, "files", "must be a list of texts, not a text"),
        ({"files": ["one", 2]}, "files[1]", "must be a text, not a number"),
        ({"timeout": "soon"}, "timeout", "'soon' is no duration; write it like 90s, 10m or 1h30m"),
        ({"timeout": "0s"}, "timeout", "leaves no time at all"),
        ({"limit": "x1000c0s[0-b0n0"}, "limit", "is not closed"),
        ({"secretResults": {}}, "secretResults", "must be a list of texts, not a map"),
    ],
)
def test_bad_inputs_are_refused_with_their_path(changed: dict[str, Any], path: str, reason: str) -> None:
    found = problems({**GOOD, **properties(**changed)})
    assert [failure.property for failure in found] == [path]
    assert reason in found[0].reason


def test_all_problems_are_told_at_once() -> None:
    found = problems({**GOOD, **properties(timeout="x", files=3, colour="red")})
    assert {failure.property for failure in found} == {"timeout", "files", "colour"}


def test_unknown_values_pass() -> None:
    known = properties(playbook="playbooks/p.yml")
    assert problems({**known, "variables": UNKNOWN, "timeout": UNKNOWN, "limit": UNKNOWN}) == []


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5s", 1.5)])
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


def test_hostlists_become_patterns_and_patterns_stay() -> None:
    assert host_pattern("n[1-2],m") == "n1,n2,m"
    assert host_pattern("nodes:!n1") == "nodes:!n1"
    assert host_pattern("nodes[0:3]") == "nodes[0:3]"


OLD = {**GOOD, **properties(sources={"a.yml": "1", "b.yml": "2"}, digest="d", results={}, status="ok")}
NEW = {**GOOD, **properties(sources={"a.yml": "1", "b.yml": "2"}, digest="d")}


def test_nothing_changed() -> None:
    assert not diff(OLD, NEW).changes


@pytest.mark.parametrize(
    ("new", "paths"),
    [
        (properties(sources={"a.yml": "1", "b.yml": "3"}), {'sources["b.yml"]': PropertyDiffKind.UPDATE}),
        (properties(sources={"a.yml": "1"}), {'sources["b.yml"]': PropertyDiffKind.DELETE}),
        (properties(variables={"a": 1, "b": [1]}), {"variables.b": PropertyDiffKind.ADD}),
        (properties(triggers=["now"]), {"triggers": PropertyDiffKind.ADD}),
        ({"variables": UNKNOWN}, {"variables": PropertyDiffKind.UPDATE}),
    ],
)
def test_a_change_is_named_by_its_path_and_means_a_run(new: dict[str, Any], paths: dict[str, Any]) -> None:
    answer = diff(OLD, {**NEW, **new})
    assert {path: change.kind for path, change in answer.detailed_diff.items()} == paths
    assert answer.changes and not answer.replaces
    assert needs_run(OLD, {**NEW, **new})


def test_how_a_run_is_watched_over_changes_without_another_run() -> None:
    new = {
        **NEW,
        **properties(timeout="20m", undo="playbooks/u.yml", verify="playbooks/v.yml", secretResults=["a"]),
    }
    assert diff(OLD, new).changes
    assert not needs_run(OLD, new)


def test_another_environment_is_another_resource() -> None:
    answer = diff({**OLD, **properties(environment="tds")}, {**NEW, **properties(environment="prod")})
    assert answer.replaces == ["environment"] and answer.delete_before_replace


@pytest.mark.parametrize("status", ["failed", "cancelled", "timed out", "unreachable", "drifted"])
def test_a_run_that_did_not_end_well_is_repeated(status: str) -> None:
    old = {**OLD, **properties(status=status)}
    assert diff(old, NEW).diffs == ["status"]
    assert needs_run(old, NEW)


def test_a_value_that_becomes_a_secret_is_no_change() -> None:
    assert not diff(OLD, {**NEW, "variables": NEW["variables"].with_secret(True)}).changes
