"""The provider's schema, made from the inputs; `pulumi package get-schema` prints it."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from sitewright.provider.inputs import INPUTS
from sitewright.provider.openchami.kinds import KINDS, Declared
from sitewright.provider.resource import TYPE

VERSION = version("sitewright")

_TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "texts": {"type": "array", "items": {"type": "string"}},
    "map": {"type": "object", "additionalProperties": {"$ref": "pulumi.json#/Any"}},
    "any": {"$ref": "pulumi.json#/Any"},
}
_OUTPUTS: dict[str, dict[str, Any]] = {
    "results": {**_TYPES["map"], "description": "What the play set with set_stats."},
    "changed": {"type": "boolean", "description": "Whether the last run changed anything."},
    "log": {"type": "string", "description": "Directory of the last run's artifacts, below the repository."},
    "status": {
        "type": "string",
        "description": "ok; or why the run is repeated: drifted, failed, cancelled …",
    },
    "drift": {"type": "string", "description": "What the verify playbook found, if anything."},
}


def schema() -> str:
    """JSON of https://www.pulumi.com/docs/iac/guides/building-extending/packages/schema/."""
    inputs = {name: {**_TYPES[spec.kind], "description": spec.description} for name, spec in INPUTS.items()}
    resource = {
        "description": "One run of an Ansible playbook.",
        "inputProperties": inputs,
        "requiredInputs": [name for name, spec in INPUTS.items() if spec.required],
        "properties": {**inputs, **_OUTPUTS},
        "required": ["playbook", "results", "changed", "log", "status"],
    }
    resources = {TYPE: resource, **{token: _service_resource(kind) for token, kind in KINDS.items()}}
    return json.dumps({"name": "sitewright", "version": VERSION, "resources": resources})


def _service_resource(kind: type[Declared]) -> dict[str, Any]:
    told = kind.model_json_schema(by_alias=True)
    inputs = {
        name: {**_type_of(one), "description": one.get("description", name)}
        for name, one in told["properties"].items()
    }
    drift = {"type": "string", "description": "What refresh found changed by hand, if anything."}
    return {
        "description": told["description"],
        "inputProperties": inputs,
        "requiredInputs": told["required"],
        "properties": {**inputs, "drift": drift},
        "required": told["required"],
    }


def _type_of(told: dict[str, Any]) -> dict[str, Any]:
    return _TYPES[{"object": "map", "array": "texts"}.get(told["type"], "text")]
