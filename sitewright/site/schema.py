"""The JSON schema of a site file, for editors that complete and check while one types."""

from typing import Any

from sitewright.site.model import Site


def schema() -> dict[str, Any]:
    """JSON schema (2020-12) of a site file; with `extends` nothing is required, as the base may hold it."""
    described = Site.model_json_schema(by_alias=False, mode="validation")
    described["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    described["title"] = "sitewright site file"
    described["properties"] = {"extends": _EXTENDS, **described["properties"]}
    required = described.pop("required")
    described["if"] = {"required": ["extends"]}
    described["else"] = {"required": required}
    # The name of the environment is the default, which a schema cannot say.
    described["$defs"]["Hypervisor"]["required"].remove("namespace")
    return described


_EXTENDS = {
    "description": "site file(s) this one builds on, relative to this file; later ones win over earlier ones",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}
