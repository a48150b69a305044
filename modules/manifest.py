"""Any Kubernetes object as a Pulumi resource, its `.status` readable.

The SDK's own `CustomResource` takes metadata and spec only and hides `.status`
(pulumi-kubernetes issue 2363). This one passes every top-level field on and
needs no generated class, so modules write plain manifests.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import pulumi

# An object of the core group is called `v1` in a manifest and `core/v1` in the provider's schema.
_CORE_GROUP = {"v1": "core/v1"}
_SECRET_FIELDS = ("data", "stringData")


class Manifest(pulumi.CustomResource):
    """The object a manifest describes.

    manifest: a whole Kubernetes object; values may be Outputs. Put `pulumi.com/waitFor` into its annotations
              where the object becomes ready later than it is created.
    name:     name of the resource in Pulumi. Default: the object's own name, which must then be known. Keep
              it stable: another name means another resource, created before the old one is deleted.
    """

    status: pulumi.Output[dict[str, Any]]
    metadata: pulumi.Output[dict[str, Any]]

    def __init__(
        self, manifest: Mapping[str, Any], name: str | None = None, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(
            resource_type(manifest),
            name or manifest["metadata"]["name"],
            # `status` is declared as an output by being there without a value.
            {**_ours(_secrets_marked(manifest)), "status": None},
            pulumi.ResourceOptions.merge(pulumi.ResourceOptions(version=version("pulumi-kubernetes")), opts),
        )


def resource_type(manifest: Mapping[str, Any]) -> str:
    """Pulumi's type token: `kubernetes:core/v1:Secret`, `kubernetes:kubevirt.io/v1:VirtualMachine`."""
    group_version = manifest["apiVersion"]
    return f"kubernetes:{_CORE_GROUP.get(group_version, group_version)}:{manifest['kind']}"


def _ours(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest, whose fields are taken back from whoever changed them by hand.

    Without the annotation the API server refuses the update as a conflict, and drift could be seen and not
    repaired. Source: pulumi-kubernetes, managing resources with server-side apply.
    """
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), "pulumi.com/patchForce": "true"}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def _secrets_marked(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with the content of a Secret encrypted in Pulumi's state."""
    if manifest["kind"] != "Secret":
        return dict(manifest)
    return {
        key: pulumi.Output.secret(value) if key in _SECRET_FIELDS else value
        for key, value in manifest.items()
    }
