"""The sections of a site file, in the order of `environments/lab.yaml`, which says what each key is for.

Sections check what one value can be told by itself. What takes two of them (references, duplicates, capacity)
is in `checks/`; what is derived (addresses, nodes) is in `plan.py`.
"""

import ipaddress
import re
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from modules.inference.gpu_flavours import FlavourName
from sitewright.site.fields import (
    AbsolutePath,
    BootUrl,
    Cidr,
    ClusterName,
    ClusterNetworkName,
    DnsLabel,
    EndpointUrl,
    FileUrl,
    Hostlist,
    HostPort,
    IpAddress,
    KernelArgument,
    LabelKey,
    LabelValue,
    Mac,
    MirrorUrl,
    Model,
    NodeHostlist,
    NotEmpty,
    ProxyCommand,
    Quantity,
    Sha512,
    SitePath,
    Taint,
    Url,
    UserName,
    VmHostlist,
    VmImageName,
)
from sitewright.site.names import POOL_LABEL

MIB, GIB = 2**20, 2**30


def _first_address(data: dict[str, Any]) -> str:
    network = ipaddress.ip_network(data["cidr"])
    return str(network[min(1, network.num_addresses - 1)])


class Network(Model):
    name: DnsLabel
    cidr: Cidr
    """range of the network; must not overlap another network, pod or service range"""
    gateway: IpAddress = Field(default_factory=_first_address)
    """address of the router; default: the first address"""
    vlan: int | None = Field(default=None, ge=1, le=4094)
    """VLAN of the network, 1-4094; default: untagged"""
    vm_offset: int = Field(default=10, ge=2)
    """the first VM has the network's address plus this"""
    node_offset: int = Field(default=256, ge=2)
    """a node has the network's address plus this plus its NID minus 1"""
    bmc_offset: int | None = Field(default=None, ge=2)
    """only where BMCs are: a BMC has the network's address plus this plus its lowest NID minus 1"""


class HypervisorImage(Model):
    name: VmImageName
    url: FileUrl
    """where the hypervisor downloads the image"""
    checksum: Sha512 | None = None
    """sha512 of the image"""
    checksum_file: SitePath | None = None
    """file in the format of sha512sum that names the image"""

    @model_validator(mode="after")
    def _one_checksum(self) -> "HypervisorImage":
        if (self.checksum is None) == (self.checksum_file is None):
            found = "both are given" if self.checksum else "an image without a digest could change unseen"
            raise ValueError(f"one of checksum and checksum_file is REQUIRED; {found}")
        return self


class Hypervisor(Model):
    kubeconfig: SitePath
    """kubeconfig of the Harvester cluster"""
    namespace: DnsLabel
    """namespace of the VMs; default: the environment's name"""
    cluster_network: ClusterNetworkName = "mgmt"
    """Harvester ClusterNetwork that carries the VLANs"""
    images: list[HypervisorImage] = Field(default_factory=list)


class HostOverride(Model):
    address: IpAddress | None = None
    """instead of the address of the plan"""
    mac: Mac | None = None
    """instead of the MAC address of the plan"""


class PlaceOverride(HostOverride):
    absent: bool = False
    """keeps its place in the plan, and is not there: whoever comes behind it keeps address and number"""


class NodeOverride(PlaceOverride):
    nid: int | None = Field(default=None, ge=1)
    """instead of the number of the plan"""


class VirtualMachineGroup(Model):
    name: VmHostlist
    """a hostlist: svc-cp[1-3] makes three"""
    image: str
    """one of hypervisor.images"""
    network: str
    """one of networks"""
    cpus: int = Field(default=2, ge=1)
    """virtual CPUs of one VM"""
    memory: Quantity = Field(default=4 * GIB, ge=GIB // 2)
    """memory of one VM"""
    disk: Quantity = Field(default=20 * GIB, ge=4 * GIB)
    """disk of one VM"""
    overrides: dict[str, PlaceOverride] = Field(default_factory=dict)
    """name of a VM → what is not as planned: address, mac, absent"""


class Ssh(Model):
    private_key: SitePath
    """key of the operator; <path>.pub is put on VMs and nodes"""
    user: UserName = "root"
    """who to log in as"""
    proxy_command: ProxyCommand | None = None
    """ProxyCommand of ssh, with %h and %p; default: none (direct)"""


class Registry(Model):
    endpoint: EndpointUrl
    """registry of container images, as nodes reach it"""


class ImageServer(Model):
    url: BootUrl
    """where boot images are fetched, as nodes reach it"""
    publish_dir: SitePath
    """directory that is served at that URL"""
    mirrors: list[MirrorUrl] = Field(default_factory=list)
    """further base URLs where nodes find what publish_dir holds; the site copies or shares it; default: none"""
    signing_key: SitePath | None = None
    """minisign secret key that signs boot images, its public half at `<path>.pub`; default: none (not signed)"""

    @property
    def kernel_arguments(self) -> list[str]:
        """What the initial root (playbooks/roles/boot_image/files) is told of the mirrors; nothing of none."""
        return [f"sitewright.mirrors={','.join(self.mirrors)}"] if self.mirrors else []


class Provisioner(Model):
    smd: Url
    """OpenCHAMI SMD"""
    bss: Url | None = None
    """OpenCHAMI BSS, which gives out boot scripts; one of bss and boot_service is REQUIRED"""
    boot_service: Url | None = None
    """OpenCHAMI boot-service, the successor of BSS; nodes then say themselves that they boot, which is a warning"""
    cloud_init: BootUrl
    """OpenCHAMI cloud-init server, as nodes reach it"""
    pcs: Url | None = None
    """OpenCHAMI power control, which speaks to the BMCs; default: none (they are spoken to directly)"""
    token_file: SitePath | None = None
    """file that holds a JWT; default: none (no authentication)"""

    @model_validator(mode="after")
    def _one_gives_out_boot_scripts(self) -> "Provisioner":
        if (self.bss is None) == (self.boot_service is None):
            found = "both are given" if self.bss else "a node would get no boot script"
            raise ValueError(f"one of bss and boot_service is REQUIRED; {found}")
        return self

    @property
    def boots(self) -> str:
        """What gives out boot scripts."""
        return self.bss or self.boot_service or ""

    @property
    def boot_script(self) -> str:
        """Where a node's boot script is asked for, with `?mac=`."""
        return f"{self.bss}/boot/v1/bootscript" if self.bss else f"{self.boot_service}/bootscript"


class Bmc(Model):
    username: NotEmpty = "root"
    """Redfish user"""
    password_file: SitePath
    """file that holds the password, mode 0600"""
    ca_file: SitePath | None = None
    """CA that signed the BMCs' certificates; default: the system's"""
    port: int = Field(default=443, ge=1, le=65535)
    """HTTPS port of Redfish"""
    overrides: dict[str, HostOverride] = Field(default_factory=dict)
    """xname of a BMC → what is not as planned: address, mac"""


class SharedFilesystem(Model):
    path: AbsolutePath = "/shared"
    """where nodes see it"""
    publish_dir: SitePath = Field(default_factory=lambda data: data["path"], validate_default=True)
    """where this machine sees it; default: the same path"""


class BootImage(Model):
    name: DnsLabel
    """recipe is images/boot/<name>/recipe.yaml"""


class Pool(Model):
    name: DnsLabel
    nodes: NodeHostlist
    """a hostlist of xnames"""
    cluster: str
    """one of clusters"""
    network: str
    """one of networks"""
    bmc_network: str | None = None
    """network of the BMCs; default: the pool's network if it has a bmc_offset, else the only one that has"""
    boot_image: str
    """one of boot_images"""
    first_nid: int | None = Field(default=None, ge=1)
    """number of the first node; default: continues after the pool before"""
    cpus: int = Field(ge=1)
    """cores of one node"""
    memory: Quantity = Field(ge=2 * GIB)
    """memory of one node; the root file system and container images live in it"""
    image_store: Quantity | None = Field(default=None, ge=256 * MIB)
    """memory of one node that container images may take; default: a sixth, at most 64Gi"""
    gpus: int = Field(default=0, ge=0)
    """GPUs of one node"""
    flavour: FlavourName | None = None
    """kind of its nodes; images and environments of what runs there are built for it; default: nothing is assumed"""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    """Kubernetes labels of the nodes"""
    taints: list[Taint] = Field(default_factory=list)
    """Kubernetes taints of the nodes, key=value:Effect"""
    kernel_arguments: list[KernelArgument] = Field(default_factory=list)
    """added to the boot image's own, character for character; nodes that run get others by `nodes roll --reboot`"""
    overrides: dict[str, NodeOverride] = Field(default_factory=dict)
    """xname of a node → what is not as planned: address, mac, nid, absent"""

    @property
    def node_labels(self) -> dict[str, str]:
        """What its nodes are labelled with: those of the site file, and by which models find them."""
        return {POOL_LABEL: self.name, **self.labels}

    @field_validator("labels")
    @classmethod
    def _label_of_the_pool(cls, labels: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        name = info.data.get("name")
        if name is not None and labels.get(POOL_LABEL, name) != name:
            raise ValueError(f"{POOL_LABEL} is the name of the pool, {name!r}; models find its nodes by it")
        return labels


class Published(Model):
    name: DnsLabel
    to: list[HostPort] = Field(min_length=1)
    """address:port in the lab; several share the load"""
    port: int = Field(ge=1, le=65535)
    """port on 127.0.0.1"""


class Lab(Model):
    state_dir: SitePath = Field(default="/var/lib/sitewright/lab", validate_default=True)
    """where the stand-ins keep everything"""
    publish: list[Published] = Field(default_factory=list)
    qemu_nodes: NodeHostlist | None = None
    """a hostlist of xnames that boot as a real node does, emulated from the firmware on: slow; default: none"""


class ClusterSection(Model):
    name: ClusterName
    distribution: Literal["rke2", "kubeadm"] = "rke2"
    version: str
    """Kubernetes version; kubeadm: 1.37.2, rke2: 1.37.2+rke2r1"""
    control_plane: Hostlist
    """hostlist of virtual_machines, 1 or 3"""
    virtual_address: IpAddress | None = None
    """address in front of 3 control planes; default: the address of the only one"""
    pod_cidr: Cidr = "10.42.0.0/16"
    """addresses of pods; in-cluster only"""
    service_cidr: Cidr = "10.43.0.0/16"
    """addresses of services; in-cluster only"""
    artifacts: Url | None = None
    """rke2: mirror with a directory per release, v1.37.2+rke2r1/; REQUIRED for rke2, refused for kubeadm"""

    @model_validator(mode="after")
    def _artifacts_are_for_rke2(self) -> "ClusterSection":
        if self.distribution == "rke2" and self.artifacts is None:
            raise ValueError("artifacts is REQUIRED with distribution rke2: it is installed from a mirror")
        if self.distribution == "kubeadm" and self.artifacts is not None:
            raise ValueError(
                "artifacts is for distribution rke2; kubeadm is installed from the pinned programs"
            )
        return self

    @field_validator("version")
    @classmethod
    def _version_fits(cls, version: str, info: ValidationInfo) -> str:
        distribution = info.data.get("distribution")
        if distribution not in _VERSIONS:  # reported by itself
            return version
        pattern, example = _VERSIONS[distribution]
        if not re.fullmatch(pattern, version):
            raise ValueError(f"{version!r} is not a version of {distribution}; write it like {example}")
        return version


_VERSIONS = {
    "kubeadm": (r"[0-9]+\.[0-9]+\.[0-9]+", "1.37.2"),
    "rke2": (r"[0-9]+\.[0-9]+\.[0-9]+\+rke2r[0-9]+", "1.37.2+rke2r1"),
}
