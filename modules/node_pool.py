"""A pool of diskless nodes: declared to the provisioner, powered on, joined, Ready."""

from typing import Any

import pulumi
from pydantic import Field

from modules.spec import DNS_LABEL, Model
from sitewright.provider import PlaybookRun

POOL_LABEL = "sitewright.dev/pool"


class ProvisionerAccess(Model):
    """Base URLs of the provisioner as the operator's machine reaches them, and one as nodes do."""

    smd: str
    bss: str
    cloud_init: str
    cloud_init_url: str = Field(description="as nodes reach it")
    token_file: str | None = None


class BmcAccess(Model):
    bmc_username: str
    bmc_password_file: str
    bmc_ca_file: str | None = None


class NodePoolSpec(Model):
    name: str = Field(pattern=DNS_LABEL)
    cluster: str = Field(pattern=DNS_LABEL)
    nodes: tuple[dict[str, Any], ...] = Field(min_length=1, description="site.Node, and the URL of its BMC")
    labels: dict[str, str] = {}
    taints: tuple[str, ...] = ()
    kernel_arguments: tuple[str, ...] = ()
    dns_address: str = Field(description="of the cluster")
    ssh_public_key: str
    provisioner: ProvisionerAccess
    bmc: BmcAccess


class NodePool(pulumi.ComponentResource):
    """Nodes that are Ready with their labels and taints once `ready` is there.

    boot:      `BootImage.boot`.
    cluster:   kubeconfig (secret), endpoint and ca_certificate of the cluster they join.
    """

    def __init__(
        self,
        spec: NodePoolSpec,
        environment: str,
        boot: pulumi.Input[dict[str, Any]],
        cluster: dict[str, pulumi.Input[str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("sitewright:modules:NodePool", spec.name, None, opts)
        nodes = list(spec.nodes)
        declared = PlaybookRun(
            f"declare-{spec.name}",
            playbook="playbooks/declare-nodes.yml",
            undo="playbooks/undeclare-nodes.yml",
            environment=environment,
            variables={
                "pool": spec.name,
                "cluster": spec.cluster,
                "nodes": nodes,
                "boot": pulumi.Output.from_input(boot).apply(lambda found: _with_arguments(found, spec)),
                "ssh_public_key": spec.ssh_public_key,
                **spec.provisioner.model_dump(),
            },
            opts=pulumi.ResourceOptions(parent=self),
        )
        powered = PlaybookRun(
            f"power-{spec.name}",
            playbook="playbooks/power-nodes.yml",
            verify="playbooks/verify-power.yml",
            undo="playbooks/power-off-nodes.yml",
            environment=environment,
            variables={"nodes": [_bmc(node) for node in nodes], **spec.bmc.model_dump()},
            timeout="30m",
            opts=pulumi.ResourceOptions(parent=self, depends_on=[declared]),
        )
        self.ready = PlaybookRun(
            f"join-{spec.name}",
            playbook="playbooks/join-nodes.yml",
            verify="playbooks/verify-nodes.yml",
            undo="playbooks/remove-nodes.yml",
            environment=environment,
            # This machine too: a pool that left the site file has no hosts, and is still taken out from here.
            limit=f"pool_{spec.name},localhost",
            variables={
                # The join works on the hosts of the limit: a node more must be another run. The removal reads it.
                "nodes": [node["xname"] for node in nodes],
                "dns_address": spec.dns_address,
                "labels": spec.labels,
                "taints": list(spec.taints),
                **cluster,
            },
            timeout="30m",
            opts=pulumi.ResourceOptions(parent=self, depends_on=[powered]),
        )
        self.nodes: pulumi.Output[dict[str, Any]] = self.ready.result("nodes")
        self.register_outputs({"nodes": self.nodes})


def _bmc(node: dict[str, Any]) -> dict[str, Any]:
    return {"xname": node["xname"], "url": node["bmc_url"]}


def _with_arguments(boot: dict[str, Any], spec: NodePoolSpec) -> dict[str, Any]:
    return {**boot, "kernel_arguments": [*boot["kernel_arguments"], *spec.kernel_arguments]}
