"""The package schema the engine asks for when it writes code for an import; made from the table of kinds."""

from __future__ import annotations

import json
from typing import Any

from tools.pins import PULUMI_RANDOM
from tools.pulumi_glue.random_provider.kinds import KINDS, NUMBERS, Kind

BOOLEANS = {"special", "upper", "lower", "number", "numeric"}
STRING = {"type": "string"}


def package_schema() -> str:
    resources = {token: _resource(token, kind) for token, kind in KINDS.items()}
    meta = {"moduleFormat": "(.*)(?:/[^/]*)"}  # of `index/randomPassword` only `index` is the module
    return json.dumps({"name": "random", "version": PULUMI_RANDOM, "meta": meta, "resources": resources})


def _resource(token: str, kind: Kind) -> dict[str, Any]:
    inputs = {name: _type(token, name) for name in kind.inputs}
    outputs = {name: {**_type(token, name), "secret": name in kind.secret} for name in kind.outputs}
    return {
        "inputProperties": inputs,
        "requiredInputs": list(kind.required),
        "properties": {**inputs, **outputs},
        "required": [*kind.required, *kind.defaults, *kind.outputs],
    }


def _type(token: str, name: str) -> dict[str, Any]:
    if name == "keepers":
        return {"type": "object", "additionalProperties": STRING}
    if name in ("inputs", "results"):
        return {"type": "array", "items": STRING}
    if name in BOOLEANS:
        return {"type": "boolean"}
    whole = name in NUMBERS or (name == "result" and token.endswith(":RandomInteger"))
    return {"type": "integer"} if whole else STRING
