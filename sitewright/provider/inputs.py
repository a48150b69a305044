"""Inputs of a PlaybookRun: what they may be, and what is wrong with those given."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.provider import CheckFailure

from sitewright.errors import SitewrightError
from sitewright.provider.values import children, has_unknown, is_unknown, path_key, plain

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOSTLIST_RANGE = re.compile(r"(?!~).*\[[0-9][^\]:]*-")
"""A range of a hostlist, `[0-3]`: Ansible writes its own `[0:3]`, and regular expressions start with `~`."""

OURS = frozenset(
    {"sitewright_environment", "sitewright_previous", "sitewright_repository", "sitewright_tools"}
)
"""Variables that every run gets from us."""

COMPUTED = frozenset({"sources", "digest"})
"""Inputs that the check adds: digest of each file behind the playbook, and one over them all."""


@dataclass(frozen=True)
class Input:
    """What one input may be. kind: text, texts, map or any."""

    kind: str
    description: str
    required: bool = False
    rerun: bool = True
    check: Callable[[Any], object] | None = None


def seconds(text: str) -> float:
    """Seconds of a duration such as `90s`, `10m` or `1h30m`. Raises: ValueError."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is no duration; write it like 90s, 10m or 1h30m")
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + rest
    if total <= 0:
        raise ValueError(f"{text!r} leaves no time at all")
    return total


def host_pattern(limit: str) -> str:
    """A limit as Ansible's host pattern: hostlists (`x1000c0s[0-7]b0n0`) are written out, the rest stays."""
    if not _HOSTLIST_RANGE.match(limit):
        return limit
    from sitewright.site.hostlist import (
        expand,
    )  # here: the site model takes a while to import, few runs need it

    return ",".join(expand(limit))


def _repository_path(text: str) -> None:
    if text.startswith("/") or ".." in text.split("/"):
        raise ValueError(
            f"{text!r} must be a path below the repository, such as playbooks/bootstrap-cluster.yml"
        )


def _variable_names(variables: Mapping[str, Any]) -> None:
    for name in variables:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an Ansible variable: letters, digits and _ only")
        if name in OURS:
            raise ValueError(f"{name} is set by sitewright for every run; leave it out")


INPUTS: dict[str, Input] = {
    "playbook": Input(
        "text", "Path of the playbook below the repository.", required=True, check=_repository_path
    ),
    "environment": Input("text", "Name of the site file whose inventory is used. Default: only localhost."),
    "limit": Input(
        "text", "Hosts: a hostlist or Ansible pattern. Default: all of the plays.", check=host_pattern
    ),
    "variables": Input("map", "Extra variables of the play; may hold secrets.", check=_variable_names),
    "triggers": Input("any", "Anything whose change means another run."),
    "files": Input(
        "texts", "Further files behind the run: paths, directories or globs below the repository."
    ),
    "verify": Input(
        "text", "Playbook that refresh runs; fails on drift.", rerun=False, check=_repository_path
    ),
    "undo": Input("text", "Playbook that runs on delete.", rerun=False, check=_repository_path),
    "timeout": Input("text", "Longest time the playbook may take, such as 10m.", rerun=False, check=seconds),
    "secretResults": Input("texts", "Names of results that are secrets.", rerun=False),
    "stableResults": Input(
        "texts", "Names of results that a repeat does not change; `*` is all.", rerun=False
    ),
}


def problems(inputs: Mapping[str, PropertyValue]) -> list[CheckFailure]:
    """Everything wrong with the inputs, by property path. Unknown values pass: they are checked when they are
    known."""
    found = [
        CheckFailure(name, _unknown_name(name))
        for name in inputs
        if name not in INPUTS and name not in COMPUTED
    ]
    for name, spec in INPUTS.items():
        value = inputs.get(name)
        if value is None or value.value is None:
            if spec.required:
                found.append(CheckFailure(name, "is required"))
        elif not is_unknown(value):
            found += [CheckFailure(path, reason) for path, reason in _value_problems(name, spec, value)]
    return found


def _value_problems(name: str, spec: Input, value: PropertyValue) -> Iterator[tuple[str, str]]:
    wrong = list(_kind_problems(name, spec.kind, value))
    yield from wrong
    if wrong or spec.check is None:
        return
    if isinstance(value.value, Mapping):
        for key in value.value:
            yield from _said(name + path_key(key), spec.check, {key: None})
    elif not has_unknown(value):
        yield from _said(name, spec.check, plain(value))


def _said(path: str, check: Callable[[Any], object], value: Any) -> Iterator[tuple[str, str]]:
    try:
        check(value)
    except (ValueError, SitewrightError) as error:
        yield path, str(error)


def _kind_problems(name: str, kind: str, value: PropertyValue) -> Iterator[tuple[str, str]]:
    inner = value.value
    if kind == "text" and not (isinstance(inner, str) and inner):
        yield name, f"must be a text that is not empty, not {_kind_of(inner)}"
    elif kind == "map" and not isinstance(inner, Mapping):
        yield name, f"must be a map, not {_kind_of(inner)}"
    elif kind == "texts":
        if isinstance(inner, str) or not isinstance(inner, Sequence):
            yield name, f"must be a list of texts, not {_kind_of(inner)}"
            return
        for index, item in children(value):
            if not isinstance(item.value, str):
                yield f"{name}{index}", f"must be a text, not {_kind_of(item.value)}"


def _kind_of(value: Any) -> str:
    names = {str: "an empty text" if value == "" else "a text", bool: "a boolean", float: "a number"}
    return names.get(type(value), "a map" if isinstance(value, Mapping) else "a list")


def _unknown_name(name: str) -> str:
    close = difflib.get_close_matches(name, INPUTS, n=1)
    return "is no input of PlaybookRun" + (f" (did you mean {close[0]!r}?)" if close else "")
