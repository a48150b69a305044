"""`Site`: a whole site file, validated, and what follows from it."""

from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, model_validator

from sitewright.errors import SitewrightError
from sitewright.site import plan
from sitewright.site.boot_recipe import size_budget
from sitewright.site.fields import DnsLabel, Model
from sitewright.site.memory import MemoryBudget, budget
from sitewright.site.plan import Node, Vm
from sitewright.site.problems import Problem, did_you_mean
from sitewright.site.sections import (
    Bmc,
    BootImage,
    ClusterSection,
    Hypervisor,
    ImageServer,
    Lab,
    Network,
    Pool,
    Provisioner,
    Registry,
    SharedFilesystem,
    Ssh,
    VirtualMachineGroup,
)
from sitewright.site.service_sections import Services

LOOPBACK = "127.0.0.1"


class Cluster(ClusterSection):
    """A cluster, with the addresses that the rest of the site gives it."""

    _first_address: str = PrivateAttr("")

    @property
    def endpoint_address(self) -> str:
        """Where its API is reached: the virtual address, else the address of the only control plane."""
        return self.virtual_address or self._first_address

    @property
    def dns_address(self) -> str:
        """The address of its DNS service: the tenth of service_cidr, as kubeadm and RKE2 choose it."""
        return plan.address_after(self.service_cidr, 10)


class Site(Model):
    name: DnsLabel
    """name of the environment; must equal the file name"""
    networks: list[Network] = Field(min_length=1)
    hypervisor: Hypervisor | None = None
    """REQUIRED when virtual_machines is not empty"""
    virtual_machines: list[VirtualMachineGroup] = Field(default_factory=list)
    ssh: Ssh | None = None
    """REQUIRED when there are VMs or nodes"""
    registry: Registry
    image_server: ImageServer | None = None
    """REQUIRED when there are pools"""
    provisioner: Provisioner | None = None
    """REQUIRED when there are pools"""
    bmc: Bmc | None = None
    """REQUIRED when there are pools"""
    shared_filesystem: SharedFilesystem = Field(default_factory=lambda: SharedFilesystem())
    clusters: list[Cluster] = Field(default_factory=list)
    boot_images: list[BootImage] = Field(default_factory=list)
    pools: list[Pool] = Field(default_factory=list)
    services: Services = Field(default_factory=Services)
    lab: Lab | None = None
    """only for a lab: how the stand-ins are run"""

    _file: Path | None = PrivateAttr(None)
    _warnings: tuple[Problem, ...] = PrivateAttr(())

    @model_validator(mode="before")
    @classmethod
    def _name_the_namespace(cls, data: Any) -> Any:
        """hypervisor.namespace defaults to the name of the environment."""
        if isinstance(data, dict) and isinstance(data.get("hypervisor"), dict) and "name" in data:
            return {**data, "hypervisor": {"namespace": data["name"], **data["hypervisor"]}}
        return data

    def model_post_init(self, context: Any) -> None:
        addresses = {vm.name: vm.address for vm in self.vms}
        for cluster in self.clusters:
            names = plan.names(cluster.control_plane)
            cluster._first_address = addresses.get(names[0], "") if names else ""

    @cached_property
    def vms(self) -> list[Vm]:
        """Every virtual machine, in the order of the file."""
        return plan.virtual_machines(self)

    @cached_property
    def nodes(self) -> list[Node]:
        """Every diskless node, in the order of the pools."""
        return plan.nodes(self)

    @property
    def emulated_nodes(self) -> list[Node]:
        """The nodes that the lab emulates from the firmware on; none in a real site."""
        chosen = plan.names(self.lab.qemu_nodes) if self.lab and self.lab.qemu_nodes else ()
        return [node for node in self.nodes if node.xname in chosen]

    def control_plane_addresses(self, cluster: str) -> list[str]:
        """Where the API servers of a cluster listen themselves, without what stands in front of them."""
        addresses = {vm.name: vm.address for vm in self.vms}
        [found] = [one for one in self.clusters if one.name == cluster]
        return [addresses[name] for name in plan.names(found.control_plane)]

    @property
    def file(self) -> Path | None:
        """The site file this was loaded from."""
        return self._file

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is legal and looks like a slip; `sitewright config check` prints them."""
        return self._warnings

    def cluster(self, name: str) -> Cluster:
        return _named(self.clusters, name, "cluster")

    def pool(self, name: str) -> Pool:
        return _named(self.pools, name, "pool")

    def network(self, name: str) -> Network:
        return _named(self.networks, name, "network")

    def memory_budget(self, pool: Pool) -> MemoryBudget:
        """Where the memory of a node of this pool goes."""
        return budget(pool.memory, size_budget(pool.boot_image) or 0, pool.image_store)

    def pool_nodes(self, pool: str) -> list[Node]:
        """The nodes of one pool, in the order of its hostlist."""
        self.pool(pool)
        return [node for node in self.nodes if node.pool == pool]

    def kernel_arguments(self, pool: Pool) -> list[str]:
        """What its nodes are told behind the kernel arguments of the boot image: of the site, then of the pool."""
        return [*(self.image_server.kernel_arguments if self.image_server else []), *pool.kernel_arguments]

    def control_plane(self, cluster: Cluster | str) -> list[Vm]:
        """The VMs that run the control plane of a cluster, in the order of its hostlist."""
        if isinstance(cluster, str):
            cluster = self.cluster(cluster)
        by_name = {vm.name: vm for vm in self.vms}
        return [by_name[name] for name in plan.names(cluster.control_plane)]

    def operator_endpoint(self, host: str, port: int) -> tuple[str, int]:
        """host:port as the operator's machine reaches it: in a lab the published port, else unchanged."""
        for published in self.lab.publish if self.lab else ():
            if f"{host}:{port}" in published.to:
                return LOOPBACK, published.port
        return host, port

    def operator_url(self, url: str) -> str:
        """A URL of the site as the operator's machine reaches it."""
        parts = urlsplit(url)
        if not parts.hostname:
            raise SitewrightError(
                f"{url!r} is not a URL: it has no host", "Write it like http://10.77.0.1:8080/path."
            )
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        host, reached = self.operator_endpoint(parts.hostname, port)
        if (host, reached) == (parts.hostname, port):
            return url
        return parts._replace(netloc=f"{host}:{reached}").geturl()


def _named(things: list[Any], name: str, kind: str) -> Any:
    for thing in things:
        if thing.name == name:
            return thing
    raise SitewrightError(f"no {kind} named {name!r}{did_you_mean(name, [thing.name for thing in things])}")
