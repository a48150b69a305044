"""Networks VMs attach to: a VLAN (or the untagged network) of the hypervisor's cluster network.

`HostNetwork` says which NICs of the hypervisor's hosts carry it, for sites that leave
that to sitewright too; Harvester's built-in `mgmt` needs none.
"""

import json
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Literal

import pulumi
from pydantic import Field, model_validator

from modules.manifest import Manifest
from modules.spec import DNS_LABEL, Model
from sitewright.site.names import CLUSTER_NETWORK_NAME_LENGTH


class VmNetworkSpec(Model):
    name: str = Field(pattern=DNS_LABEL, description="name of the network, as VMs refer to it")
    namespace: str = Field(pattern=DNS_LABEL)
    cluster_network: str = Field("mgmt", pattern=DNS_LABEL, max_length=CLUSTER_NETWORK_NAME_LENGTH)
    vlan: int | None = Field(None, ge=1, le=4094, description="None: untagged")
    cidr: IPv4Network
    gateway: IPv4Address | None = None
    mtu: int = Field(1500, ge=576, le=9216)

    @model_validator(mode="after")
    def _gateway_inside(self) -> "VmNetworkSpec":
        if self.gateway is not None and self.gateway not in self.cidr:
            raise ValueError(f"gateway {self.gateway} is outside {self.cidr}")
        return self


class HostNetworkSpec(Model):
    name: str = Field(pattern=DNS_LABEL, max_length=CLUSTER_NETWORK_NAME_LENGTH)
    nics: tuple[str, ...] = Field(min_length=1, description="NICs of the hosts, bonded when more than one")
    bond_mode: Literal["active-backup", "802.3ad", "balance-rr", "balance-tlb", "balance-alb"] = (
        "active-backup"
    )
    mtu: int = Field(1500, ge=576, le=9216)
    node_selector: dict[str, str] = Field({}, description="hosts by label; {} is all of them")


def render(spec: VmNetworkSpec) -> list[dict[str, Any]]:
    """The NetworkAttachmentDefinition.

    The MTU is written although Harvester would add it: it adds it to the text of `config`, and a text that
    differs from ours would show as drift for ever.
    """
    kind = "UntaggedNetwork" if spec.vlan is None else "L2VlanNetwork"
    labels = {
        "network.harvesterhci.io/clusternetwork": spec.cluster_network,
        "network.harvesterhci.io/type": kind,
    }
    if spec.vlan is not None:
        labels["network.harvesterhci.io/vlan-id"] = str(spec.vlan)
    route = {"mode": "manual", "cidr": str(spec.cidr), "gateway": str(spec.gateway or "")}
    return [
        {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {
                "name": spec.name,
                "namespace": spec.namespace,
                "labels": labels,
                "annotations": {"network.harvesterhci.io/route": _compact(route)},
            },
            "spec": {"config": _compact(_cni_config(spec))},
        }
    ]


def render_host_network(spec: HostNetworkSpec) -> list[dict[str, Any]]:
    """The ClusterNetwork and the VlanConfig that ties it to the hosts' NICs."""
    network = {
        "apiVersion": "network.harvesterhci.io/v1beta1",
        "kind": "ClusterNetwork",
        "metadata": {"name": spec.name},
    }
    uplink = {
        "nics": list(spec.nics),
        "bondOptions": {"mode": spec.bond_mode, "miimon": -1},
        "linkAttributes": {"mtu": spec.mtu, "txQLen": -1},
    }
    selector = {"nodeSelector": spec.node_selector} if spec.node_selector else {}
    config = {
        "apiVersion": "network.harvesterhci.io/v1beta1",
        "kind": "VlanConfig",
        "metadata": {"name": f"{spec.name}-uplink"},
        "spec": {"clusterNetwork": spec.name, **selector, "uplink": uplink},
    }
    return [network, config]


class VmNetwork(pulumi.ComponentResource):
    """A network VMs can name as `namespace/name` once this resource is there."""

    def __init__(self, spec: VmNetworkSpec, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("sitewright:modules:VmNetwork", spec.name, None, opts)
        for manifest in render(spec):
            Manifest(manifest, opts=pulumi.ResourceOptions(parent=self))
        self.network_id = f"{spec.namespace}/{spec.name}"
        self.register_outputs({"network_id": self.network_id})


class HostNetwork(pulumi.ComponentResource):
    """The cluster network `spec.name` on the hypervisor's hosts."""

    def __init__(self, spec: HostNetworkSpec, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("sitewright:modules:HostNetwork", spec.name, None, opts)
        network, config = render_host_network(spec)
        carried = Manifest(network, opts=pulumi.ResourceOptions(parent=self))
        Manifest(config, opts=pulumi.ResourceOptions(parent=self, depends_on=[carried]))
        self.register_outputs({})


def _cni_config(spec: VmNetworkSpec) -> dict[str, Any]:
    """What Multus hands to the bridge plugin. Harvester insists on the bridge's name."""
    vlan = {} if spec.vlan is None else {"vlan": spec.vlan}
    return {
        "cniVersion": "0.3.1",
        "name": spec.name,
        "type": "bridge",
        "bridge": f"{spec.cluster_network}-br",
        "promiscMode": True,
        **vlan,
        "ipam": {},
        "mtu": spec.mtu,
    }


def _compact(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
