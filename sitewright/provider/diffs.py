"""What changed between the state of a resource and its new inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.provider import DiffResponse, PropertyDiff, PropertyDiffKind

from sitewright.provider.inputs import COMPUTED, INPUTS
from sitewright.provider.values import children, has_unknown, is_unknown, plain

REPLACES = frozenset({"environment"})
"""Another environment is another site: what was done on the old one is undone there."""

REPEAT = "status"
"""Output that says how the last run, or the last verify, ended."""

_OK = PropertyValue("ok")
_NOTHING = PropertyValue(None)


def diff(old: Mapping[str, PropertyValue], new: Mapping[str, PropertyValue]) -> DiffResponse:
    """Of a PlaybookRun; preview names the very file or variable that changed."""
    changed = changes(old, new, {*INPUTS, *COMPUTED}, REPLACES)
    if plain(old.get(REPEAT, _OK)) != "ok":
        changed[REPEAT] = PropertyDiff(PropertyDiffKind.UPDATE, input_diff=False)
    return answer(changed, REPLACES)


def changes(
    old: Mapping[str, PropertyValue],
    new: Mapping[str, PropertyValue],
    names: Iterable[str],
    replaces: Collection[str],
) -> dict[str, PropertyDiff]:
    """What differs of the inputs of these names, by property path. replaces: those whose change is another resource."""
    changed: dict[str, PropertyDiff] = {}
    for name in sorted(names):
        for path, kind in _changes(name, old.get(name, _NOTHING), new.get(name, _NOTHING)):
            kind = PropertyDiffKind.UPDATE_REPLACE if name in replaces else kind
            changed[path] = PropertyDiff(kind, input_diff=True)
    return changed


def answer(changed: dict[str, PropertyDiff], replaces: Collection[str]) -> DiffResponse:
    """For the engine. A replacement deletes first: undone after it was done anew, it would stay undone."""
    top_level = sorted({path.partition(".")[0].partition("[")[0] for path in changed})
    return DiffResponse(
        changes=bool(changed),
        diffs=top_level,
        replaces=[name for name in top_level if name in replaces],
        delete_before_replace=True,
        detailed_diff=changed,
    )


def needs_run(old: Mapping[str, PropertyValue], new: Mapping[str, PropertyValue]) -> bool:
    """Whether a change means another run; otherwise the new inputs only have to be remembered."""
    quiet = {name for name, spec in INPUTS.items() if not spec.rerun}
    return any(name not in quiet for name in diff(old, new).diffs)


def _changes(path: str, old: PropertyValue, new: PropertyValue) -> Iterator[tuple[str, PropertyDiffKind]]:
    if is_unknown(new):
        yield path, PropertyDiffKind.UPDATE
    elif old.value is None or new.value is None:
        if old.value is not None or new.value is not None:
            yield path, PropertyDiffKind.ADD if old.value is None else PropertyDiffKind.DELETE
    elif isinstance(old.value, Mapping) and isinstance(new.value, Mapping):
        before, after = dict(children(old)), dict(children(new))
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _changes(path + key, before.get(key, _NOTHING), after.get(key, _NOTHING))
    elif has_unknown(new) or plain(old) != plain(new):
        yield path, PropertyDiffKind.UPDATE
