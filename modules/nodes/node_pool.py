"""A pool of diskless nodes: declared to the provisioner, powered on, joined, Ready."""

from typing import Any

import pulumi
from pydantic import Field

from modules.nodes import node_join
from modules.spec import DNS_LABEL, Model
from sitewright.provider import PlaybookRun
from sitewright.provider.openchami.resources import BootConfiguration, CloudInitGroup, NodeGroup, Nodes
from sitewright.provisioning.openchami import EXCLUSIVE


class ProvisionerAccess(Model):
    """Base URLs of what forgets a node, as the operator's machine reaches them: bss or boot_service."""

    smd: str
    bss: str | None = None
    boot_service: str | None = None
    pcs: str | None = None
    token_file: str | None = None

    @property
    def of_power(self) -> dict[str, str]:
        """What a play that switches nodes has to know of it: nothing where BMCs are spoken to directly."""
        return self.model_dump(include={"pcs", "token_file"}, exclude_none=True) if self.pcs else {}


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
    identity: tuple[str, ...] = Field(
        min_length=1, description="URLs of the service that gives nodes their identity, one per control plane"
    )
    memory: node_join.NodeMemory
    rke2: node_join.Rke2Join | None = Field(None, description="of a cluster of this distribution")
    boot_notice: bool = Field(
        False, description="nodes say that they boot, since the provisioner does not know"
    )
    ssh_public_key: str
    provisioner: ProvisionerAccess
    bmc: BmcAccess


class NodePool(pulumi.ComponentResource):
    """Nodes that are Ready with their labels and taints once `ready` is there.

    What comes is first, what leaves is last: the nodes that left the pool are released after `ready`, when those that
    take over their work are there. At the end of a pool its runs are undone one by one.

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
        settings = pulumi.Output.all(cluster["endpoint"], cluster["ca_certificate"]).apply(
            lambda known: node_join.settings(
                known[0],
                known[1],
                spec.identity,
                spec.dns_address,
                spec.labels,
                spec.taints,
                spec.memory,
                spec.rke2,
                spec.boot_notice,
            )
        )
        declared = self._declared(spec, environment, pulumi.Output.from_input(boot), settings)
        powered = PlaybookRun(
            f"power-{spec.name}",
            playbook="playbooks/power-nodes.yml",
            verify="playbooks/verify-power.yml",
            undo="playbooks/power-off-nodes.yml",
            environment=environment,
            variables={
                "nodes": [_bmc(node) for node in nodes],
                **spec.bmc.model_dump(),
                **spec.provisioner.of_power,
            },
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
                "settings": settings,
                "labels": spec.labels,
                "taints": list(spec.taints),
                "kubeconfig": cluster["kubeconfig"],
            },
            timeout="30m",
            opts=pulumi.ResourceOptions(parent=self, depends_on=[powered]),
        )
        PlaybookRun(
            f"release-{spec.name}",
            playbook="playbooks/release-nodes.yml",
            # For what a run that failed left over; else there is nothing to do.
            undo="playbooks/release-nodes.yml",
            environment=environment,
            variables={
                "pool": spec.name,
                "nodes": {node["xname"]: _released(node) for node in nodes},
                "kubeconfig": cluster["kubeconfig"],
                **spec.provisioner.model_dump(),
                **spec.bmc.model_dump(),
            },
            timeout="2h",
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self.ready]),
        )
        self.nodes: pulumi.Output[dict[str, Any]] = self.ready.result("nodes")
        self.register_outputs({"nodes": self.nodes})

    def _declared(
        self,
        spec: NodePoolSpec,
        environment: str,
        boot: pulumi.Output[dict[str, Any]],
        settings: pulumi.Output[str],
    ) -> BootConfiguration:
        """What the provisioner is told. A node that boots early must find its group and its configuration."""
        group = NodeGroup(
            f"{spec.name}-group",
            environment,
            label=spec.name,
            description=f"pool {spec.name} of cluster {spec.cluster}",
            exclusive_group=EXCLUSIVE,
            opts=pulumi.ResourceOptions(parent=self),
        )
        configuration = CloudInitGroup(
            f"{spec.name}-cloud-init",
            environment,
            group=spec.name,
            description=f"nodes of pool {spec.name}",
            meta_data={"cluster-name": spec.cluster},
            cloud_config=settings.apply(lambda text: node_join.cloud_config(text, spec.ssh_public_key)),
            opts=pulumi.ResourceOptions(parent=self),
        )
        nodes = Nodes(
            f"{spec.name}-nodes",
            environment,
            group=spec.name,
            nodes={node["xname"]: _known_node(node) for node in spec.nodes},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[group, configuration]),
        )
        return BootConfiguration(
            f"{spec.name}-boot",
            environment,
            group=spec.name,
            nodes=[node["xname"] for node in spec.nodes],
            kernel=boot["kernel_url"],
            initrd=boot["initrd_url"],
            arguments=boot.apply(lambda found: [*found["kernel_arguments"], *spec.kernel_arguments]),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[nodes]),
        )


def _bmc(node: dict[str, Any]) -> dict[str, Any]:
    return {"xname": node["xname"], "url": node["bmc_url"]}


def _released(node: dict[str, Any]) -> dict[str, Any]:
    """What its release needs to know of a node that is no longer in the site file."""
    return {name: node[name] for name in ("xname", "bmc", "mac")} | {"power": _bmc(node)}


def _known_node(node: dict[str, Any]) -> dict[str, Any]:
    """What the provisioner knows of it, in the words of the resource."""
    names = {"bmcAddress": "bmc_address", "bmcMac": "bmc_mac"}
    return {name: node[names.get(name, name)] for name in ("nid", "mac", "address", "bmc", *names)}
