"""Manifests of which the last, the workload, waits for what is published first: an image, software, weights."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pulumi

from modules.manifest import Manifest
from modules.spec import Model

Spec = TypeVar("Spec", bound=Model)


def make(
    parent: pulumi.Resource,
    spec: Spec,
    published: pulumi.Input[Mapping[str, str]],
    render: Callable[[Spec], list[dict[str, Any]]],
    name: Callable[[Mapping[str, Any]], str] | None = None,
) -> list[pulumi.Resource]:
    """Makes what `render` gives of the spec. Returns the resources in its order.

    published: fields of the spec that are known only once they are published, and then replace those of `spec`.
    name:      of a manifest's resource. Default: the object's own name with its kind.
    """
    *others, workload = render(spec)
    # Kind and name do not depend on what is published, so the plan is whole before that exists.
    workload["spec"] = pulumi.Output.from_input(published).apply(
        lambda found: render(spec.model_copy(update=dict(found)))[-1]["spec"]
    )
    options = pulumi.ResourceOptions(parent=parent)
    return [Manifest(one, (name or _named)(one), options) for one in (*others, workload)]


def _named(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['metadata']['name']}-{manifest['kind'].lower()}"
