"""Prints what Kueue's own module says a cluster needs for it, one manifest a line:

    python -m tools.kueue_manifests > modules/queues/kueue_upstream.json

Kinds, roles and webhooks belong to the program as its flags do, so they are read from the same Go module, whose
bytes go.sum pins, and written down by nobody. They are kept as a file because `pulumi preview` must not need Go.
"""

import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from tools.compile import module_directory
from tools.pins import GO_MODULES

CRDS = "components/crd"
ROLES = ("role", "leader_election_role", "manager_secrets_role", "metrics_auth_role")
WEBHOOKS = "components/webhook/manifests.yaml"
Manifests = list[dict[str, Any]]


def upstream(config: Path) -> Manifests:
    """The kinds as upstream's kustomization puts them together, the roles of the program, and its webhooks.

    config: the directory of that name in Kueue's module. Descriptions of fields are left out: they are 1.2 MB, which
    Pulumi would carry in its state twice.
    """
    roles = (_read(config / "components/rbac" / f"{name}.yaml") for name in ROLES)
    return [*_kinds(config / CRDS), *_flat(roles), *_read(config / WEBHOOKS)]


def published() -> Path:
    """The directory `config` of the pinned version, in the Go module cache; downloads it if need be."""
    with tempfile.TemporaryDirectory() as scratch:
        return module_directory("sigs.k8s.io/kueue", GO_MODULES / "kueue", Path(scratch) / "log") / "config"


def text(manifests: Manifests) -> str:
    return "[\n" + ",\n".join(json.dumps(manifest) for manifest in manifests) + "\n]\n"


def _kinds(directory: Path) -> Manifests:
    """With the conversion webhooks that the kustomization adds to kinds of two versions."""
    [kustomization] = _read(directory / "kustomization.yaml")
    patches = _flat(_read(directory / patch["path"]) for patch in kustomization["patches"])
    conversions = {patch["metadata"]["name"]: patch["spec"] for patch in patches}
    kinds = _flat(_read(directory / path) for path in kustomization["resources"])
    for kind in kinds:
        kind["spec"].update(conversions.get(kind["metadata"]["name"], {}))
    return [_without_descriptions(kind) for kind in kinds]


def _flat(lists: Iterable[Manifests]) -> Manifests:
    return [manifest for manifests in lists for manifest in manifests]


def _read(path: Path) -> Manifests:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in Python takes 10 s for 1.4 MB
    return [found for found in yaml.load_all(path.read_text(), loader) if found]


def _without_descriptions(schema: Any) -> Any:
    """What describes is a text; a field that is called `description` is a mapping, and stays."""
    if isinstance(schema, list):
        return [_without_descriptions(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_descriptions(value)
        for key, value in schema.items()
        if not (key == "description" and isinstance(value, str))
    }


if __name__ == "__main__":
    sys.stdout.write(text(upstream(published())))
