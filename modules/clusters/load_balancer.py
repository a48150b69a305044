"""A fixed address in front of VMs: Harvester's load balancer, fed from a pool of exactly that address."""

from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any

import pulumi
from pydantic import Field, model_validator

from modules.manifest import Manifest
from modules.spec import DNS_LABEL, Model
from sitewright.site.names import LOAD_BALANCER_NAME_LENGTH

ADDRESS_TIMEOUT = 300  # seconds until the balancer holds its address
_API = "loadbalancer.harvesterhci.io/v1beta1"


class LoadBalancerSpec(Model):
    name: str = Field(pattern=DNS_LABEL, max_length=LOAD_BALANCER_NAME_LENGTH)
    namespace: str = Field(
        pattern=DNS_LABEL, description="of the VMs; it finds VMs of its own namespace only"
    )
    address: IPv4Address
    cidr: IPv4Network = Field(description="network of the VMs and of the address")
    gateway: IPv4Address
    network: str = Field(
        pattern=r"^[-a-z0-9]+/[-a-z0-9]+$", description="namespace/object, VmNetwork.network_id"
    )
    machines: tuple[str, ...] = Field(min_length=1, description="names of the VMs behind the address")
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(
        min_length=1, description="TCP ports, the same in front and behind; the first one tells who is well"
    )

    @model_validator(mode="after")
    def _address_is_inside(self) -> "LoadBalancerSpec":
        if self.address not in self.cidr:
            raise ValueError(f"address {self.address} is outside {self.cidr}")
        if self.address == self.gateway:
            raise ValueError(f"address {self.address} is the gateway")
        return self

    @property
    def pool(self) -> str:
        """Pools belong to the whole hypervisor, so the namespace is part of the name."""
        return f"{self.namespace}-{self.name}"


def render(spec: LoadBalancerSpec) -> list[dict[str, Any]]:
    """The IPPool and the LoadBalancer, in the order they are applied.

    The balancer has its address before any VM behind it answers, which is what the first control plane needs.
    Source: Harvester's load balancer API. VMs are found by label, and their addresses by the guest agent.
    """
    return [_pool(spec), _balancer(spec)]


class LoadBalancer(pulumi.ComponentResource):
    """The address leads to those of the VMs that answer, once `ready` is there."""

    def __init__(self, spec: LoadBalancerSpec, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("sitewright:modules:LoadBalancer", spec.name, None, opts)
        pool, balancer = render(spec)
        addresses = Manifest(pool, opts=pulumi.ResourceOptions(parent=self))
        self.ready = Manifest(balancer, opts=pulumi.ResourceOptions(parent=self, depends_on=[addresses]))
        self.register_outputs({"address": str(spec.address)})


def _pool(spec: LoadBalancerSpec) -> dict[str, Any]:
    address = str(spec.address)
    return {
        "apiVersion": _API,
        "kind": "IPPool",
        "metadata": {"name": spec.pool},
        "spec": {
            "ranges": [
                {
                    "subnet": str(spec.cidr),
                    "rangeStart": address,
                    "rangeEnd": address,
                    "gateway": str(spec.gateway),
                }
            ],
            "selector": {
                "network": spec.network,
                "scope": [{"namespace": spec.namespace, "project": "*", "guestCluster": "*"}],
            },
        },
    }


def _balancer(spec: LoadBalancerSpec) -> dict[str, Any]:
    return {
        "apiVersion": _API,
        "kind": "LoadBalancer",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "annotations": {
                "pulumi.com/waitFor": "jsonpath={.status.address}",
                "pulumi.com/timeoutSeconds": str(ADDRESS_TIMEOUT),
            },
        },
        "spec": {
            "workloadType": "vm",
            "ipam": "pool",
            "ipPool": spec.pool,
            "listeners": [
                {"name": f"port-{port}", "port": port, "protocol": "TCP", "backendPort": port}
                for port in spec.ports
            ],
            "backendServerSelector": {"harvesterhci.io/vmName": list(spec.machines)},
            "healthCheck": {
                "port": spec.ports[0],
                "periodSeconds": 5,
                "timeoutSeconds": 3,
                "successThreshold": 1,
                "failureThreshold": 3,
            },
        },
    }
