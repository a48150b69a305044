"""The Pulumi protocol over the table of kinds: check, diff, create, read; nothing is updated in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pulumi.provider.experimental import provider as protocol
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime.rpc import UNKNOWN

from sitewright.errors import SitewrightError
from tools.pulumi_glue.random_provider.kinds import KINDS, Kind, Values
from tools.pulumi_glue.random_provider.schema import package_schema

Properties = Mapping[str, PropertyValue]


class RandomProvider(protocol.Provider):
    async def get_schema(self, request: protocol.GetSchemaRequest) -> protocol.GetSchemaResponse:
        return protocol.GetSchemaResponse(schema=package_schema())

    async def configure(self, request: protocol.ConfigureRequest) -> protocol.ConfigureResponse:
        return protocol.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def check(self, request: protocol.CheckRequest) -> protocol.CheckResponse:
        known = {name: value for name, value in plain(request.new_inputs).items() if not _unknown(value)}
        problems = _kind(request.type).problems(known)
        missing = [name for name in _kind(request.type).required if name not in request.new_inputs]
        problems += [(name, "required, and missing") for name in missing]
        failures = [protocol.CheckFailure(property=name, reason=reason) for name, reason in problems]
        return protocol.CheckResponse(inputs=request.new_inputs, failures=failures)

    async def diff(self, request: protocol.DiffRequest) -> protocol.DiffResponse:
        kind = _kind(request.type)
        changed = differences(kind, plain(request.old_state), plain(request.new_inputs))
        return protocol.DiffResponse(
            changes=bool(changed),
            replaces=list(changed),
            diffs=list(changed),
            detailed_diff={
                name: protocol.PropertyDiff(how, input_diff=False) for name, how in changed.items()
            },
        )

    async def create(self, request: protocol.CreateRequest) -> protocol.CreateResponse:
        kind = _kind(request.type)
        values = kind.complete(plain(request.properties))
        if request.preview:
            properties = {**values, **dict.fromkeys(kind.outputs, UNKNOWN)}
            return protocol.CreateResponse(properties=_marked(kind, properties, request.properties))
        made = kind.make(values)
        return protocol.CreateResponse(
            resource_id=made.identifier, properties=_marked(kind, made.properties, request.properties)
        )

    async def read(self, request: protocol.ReadRequest) -> protocol.ReadResponse:
        """For a refresh what the state says; for an import the value that the identifier carries."""
        kind = _kind(request.type)
        if request.properties:
            return protocol.ReadResponse(request.resource_id, dict(request.properties), dict(request.inputs))
        if kind.adopt is None:
            raise SitewrightError(
                f"{request.type} cannot be imported", "The official provider refuses it too."
            )
        made = kind.adopt(request.resource_id)
        given = {
            name: value
            for name, value in made.properties.items()
            if name in kind.inputs and kind.defaults.get(name) != value
        }
        properties = _marked(kind, made.properties, {})
        return protocol.ReadResponse(
            made.identifier, properties, {name: _property(v) for name, v in given.items()}
        )

    async def update(self, request: protocol.UpdateRequest) -> protocol.UpdateResponse:
        raise SitewrightError(f"{request.urn}: every change of a random resource replaces it")

    async def delete(self, request: protocol.DeleteRequest) -> None:
        return None


def differences(kind: Kind, old: Values, new: Values) -> dict[str, protocol.PropertyDiffKind]:
    """The inputs that differ from the state, defaults filled in; every one of them replaces the resource."""
    complete = kind.complete(new)
    changed = {}
    for name in kind.inputs:
        before, after = _without_nulls(old.get(name)), _without_nulls(complete.get(name))
        if before == after:
            continue
        if before is None:
            changed[name] = protocol.PropertyDiffKind.ADD_REPLACE
        elif after is None:
            changed[name] = protocol.PropertyDiffKind.DELETE_REPLACE
        else:
            changed[name] = protocol.PropertyDiffKind.UPDATE_REPLACE
    return changed


def plain(properties: Properties) -> Values:
    """Property values as plain Python: secrets opened, whole numbers as int, nulls left out."""
    values = {name: _plain(value) for name, value in properties.items()}
    return {name: value for name, value in values.items() if value is not None}


def _plain(value: PropertyValue) -> Any:
    inner = value.value
    if isinstance(inner, float) and inner.is_integer():
        return int(inner)
    if isinstance(inner, Mapping):
        return {name: _plain(item) for name, item in inner.items()}
    if isinstance(inner, Sequence) and not isinstance(inner, str):
        return [_plain(item) for item in inner]
    return inner


def _property(value: Any, secret: bool = False) -> PropertyValue:
    if isinstance(value, dict):
        return PropertyValue({name: _property(item) for name, item in value.items()}, is_secret=secret)
    if isinstance(value, list):
        return PropertyValue([_property(item) for item in value], is_secret=secret)
    number = isinstance(value, int) and not isinstance(value, bool)
    return PropertyValue(float(value) if number else value, is_secret=secret)


def _marked(kind: Kind, values: Values, inputs: Properties) -> dict[str, PropertyValue]:
    """Properties for the engine: inputs as they came (a secret stays one), secret outputs marked."""
    made = {name: _property(value, secret=name in kind.secret) for name, value in values.items()}
    return {**made, **{name: value for name, value in inputs.items() if value.value is not None}}


def _kind(type_token: str) -> Kind:
    # Inside a component the engine names the component too: `component:type$random:index/…`.
    type_token = type_token.rpartition("$")[2]
    if type_token not in KINDS:
        known = ", ".join(sorted(token.rsplit(":", 1)[1] for token in KINDS))
        raise SitewrightError(
            f"{type_token}: sitewright's own random provider has {known}",
            "For other resources install the official pulumi-random plugin; it is then used by itself.",
        )
    return KINDS[type_token]


def _unknown(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(_unknown(item) for item in value)
    return bool(value == UNKNOWN)


def _without_nulls(value: Any) -> Any:
    """Keepers whose value is null count as absent, and no keepers are the same as empty ones."""
    if isinstance(value, dict):
        return {name: item for name, item in value.items() if item is not None} or None
    return value
