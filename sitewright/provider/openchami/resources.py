"""The resources of OpenCHAMI as a Pulumi program writes them; kinds.py beside this says what each input means.

`pulumi import sitewright:openchami:NodeGroup gpu lab/gpu` takes over what is there: the id is environment/name. An
import finds all inputs at the services.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi


class _Resource(pulumi.CustomResource):
    def __init__(self, name: str, inputs: dict[str, Any], opts: pulumi.ResourceOptions | None) -> None:
        token = f"sitewright:openchami:{type(self).__name__}"
        # Forgotten after it was declared anew, it would stay forgotten.
        delete_first = pulumi.ResourceOptions(delete_before_replace=True)
        super().__init__(
            token, name, {**inputs, "drift": None}, pulumi.ResourceOptions.merge(opts, delete_first)
        )

    @property
    def drift(self) -> pulumi.Output[str | None]:
        """What the last refresh found changed by hand, with the nodes; the next update puts it back."""
        return pulumi.get(self, "drift")


class NodeGroup(_Resource):
    """A group of SMD, without its members."""

    def __init__(
        self,
        name: str,
        environment: pulumi.Input[str],
        label: pulumi.Input[str],
        description: pulumi.Input[str] | None = None,
        exclusive_group: pulumi.Input[str] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        inputs = {
            "environment": environment,
            "label": label,
            "description": description,
            "exclusiveGroup": exclusive_group,
        }
        super().__init__(name, inputs, opts)


class CloudInitGroup(_Resource):
    """What the cloud-init server gives to the nodes of a group."""

    def __init__(
        self,
        name: str,
        environment: pulumi.Input[str],
        group: pulumi.Input[str],
        cloud_config: pulumi.Input[str],
        description: pulumi.Input[str] | None = None,
        meta_data: pulumi.Input[Mapping[str, pulumi.Input[str]]] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        inputs = {
            "environment": environment,
            "name": group,
            "description": description,
            "metaData": meta_data,
            "cloudConfig": cloud_config,
        }
        super().__init__(name, inputs, opts)


class Nodes(_Resource):
    """Nodes of a group. nodes: by xname, dicts of nid, mac, address, bmc, bmcAddress, bmcMac."""

    def __init__(
        self,
        name: str,
        environment: pulumi.Input[str],
        group: pulumi.Input[str],
        nodes: pulumi.Input[Mapping[str, Mapping[str, Any]]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(name, {"environment": environment, "group": group, "nodes": nodes}, opts)


class BootConfiguration(_Resource):
    """What nodes of a group boot. kernel, initrd: URLs; arguments: of the kernel command line."""

    def __init__(
        self,
        name: str,
        environment: pulumi.Input[str],
        group: pulumi.Input[str],
        nodes: pulumi.Input[Sequence[pulumi.Input[str]]],
        kernel: pulumi.Input[str],
        initrd: pulumi.Input[str],
        arguments: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        inputs = {
            "environment": environment,
            "group": group,
            "nodes": nodes,
            "kernel": kernel,
            "initrd": initrd,
            "arguments": arguments,
        }
        super().__init__(name, inputs, opts)
