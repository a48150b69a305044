"""The sections of a site file, in the order of `environments/lab.yaml`, which says what each key is for.

Sections check what one value can be told by itself. What takes two of them (references, duplicates, capacity)
is in `checks/`; what is derived (addresses, nodes) is in `plan.py`.
"""

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from sitewright.site.fields import (
    AbsolutePath,
    BootUrl,
    Cidr,
    ClusterName,
    ClusterNetworkName,
    Directory,
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
    Model,
    ModelName,
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
from sitewright.site.serving_values import first_word_bound

GIB = 2**30
Priority = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]


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


class Provisioner(Model):
    smd: Url
    """OpenCHAMI SMD"""
    bss: Url
    """OpenCHAMI BSS"""
    cloud_init: BootUrl
    """OpenCHAMI cloud-init server, as nodes reach it"""
    token_file: SitePath | None = None
    """file that holds a JWT; default: none (no authentication)"""


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
    """memory of one node; the root file system lives in it"""
    gpus: int = Field(default=0, ge=0)
    """GPUs of one node"""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    """Kubernetes labels of the nodes"""
    taints: list[Taint] = Field(default_factory=list)
    """Kubernetes taints of the nodes, key=value:Effect"""
    kernel_arguments: list[KernelArgument] = Field(default_factory=list)
    """added to the boot image's own, character for character"""
    overrides: dict[str, NodeOverride] = Field(default_factory=dict)
    """xname of a node → what is not as planned: address, mac, nid, absent"""

    @field_validator("labels")
    @classmethod
    def _label_of_the_pool(cls, labels: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        name = info.data.get("name")
        if name is not None and labels.get(POOL_LABEL, name) != name:
            raise ValueError(f"{POOL_LABEL} is the name of the pool, {name!r}; models find its nodes by it")
        return labels


class Router(Model):
    environment: DnsLabel = "vllm-router"
    """images/environments/<name>"""
    pool: str | None = None
    """one of pools, in the cluster of the model, with x86_64 nodes; default: the pool of the model"""
    replicas: int = Field(default=2, ge=1)
    policy: Literal["consistent_hash", "power_of_two", "round_robin", "cache_aware"] = "consistent_hash"
    """which replica gets a request; consistent_hash: by the header X-Session-ID, else by the request itself"""


class ServedModel(Model):
    name: ModelName
    """DNS name of the service and name of the served model"""
    cluster: str
    """one of clusters"""
    pool: str
    """one of pools"""
    model: Directory
    """directory below <shared>/models"""
    environment: DnsLabel
    """images/environments/<name>"""
    image: DnsLabel
    """images/containers/<name>"""
    replicas: int = Field(default=2, ge=1)
    nodes: int = Field(default=1, ge=1)
    """nodes per replica; above 1 they compute together, and the cluster needs LeaderWorkerSet"""
    gpus: int = Field(default=1, ge=0)
    """GPUs per replica, on each of its nodes"""
    memory: Quantity = Field(ge=GIB // 4)
    """memory limit per replica"""
    cpus: int = Field(ge=1)
    """CPUs per replica"""
    node_port: int | None = Field(default=None, ge=30000, le=32767)
    """port on every node; default: none (cluster only)"""
    max_model_len: int | None = Field(default=None, ge=1)
    """context length in tokens; default: the model's own"""
    adapters: bool = False
    """whether LoRA adapters published for it are served"""
    router: Router | None = None
    """keeps the requests of a session on one replica, behind the gateway; default: none"""


class FineTuning(Model):
    models: list[str] = Field(min_length=1)
    """which of services.models may be tuned"""
    pool: str
    """one of pools, in the cluster of the models; where runs go"""
    namespace: DnsLabel = "fine-tuning"
    """Kubernetes namespace of the runs"""
    gpus: int = Field(default=1, ge=0, le=1)
    """GPUs per run: one, or none to train on CPU"""
    cpus: int = Field(ge=1)
    """CPUs per run"""
    memory: Quantity = Field(ge=GIB)
    """memory limit per run"""


class Amount(Model):
    cpus: int = Field(default=0, ge=0)
    memory: Quantity = Field(default=0, ge=0)
    gpus: int = Field(default=0, ge=0)


class BatchQueues(Model):
    pool: str
    """one of pools, in the cluster of the runs; where Kueue itself runs"""
    image: DnsLabel = "kueue"
    """images/containers/<name>"""
    quota: Amount
    """what all runs together may take of the pool they go to"""
    lend: Amount = Field(default_factory=Amount)
    """what runs may borrow beyond that, of what the models of that pool hold"""
    teams: list[DnsLabel] = Field(min_length=1)
    """each has a queue of its name: sitewright tune submit --queue <team>"""
    priorities: dict[DnsLabel, Priority] = Field(default_factory=dict)
    """name → value; a run of a higher one makes a lower one wait, one that names none has 0"""


class AliasTarget(Model):
    model: str
    """one of services.models"""
    adapter: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9.-]*--v[1-9][0-9]*$")
    """a published adapter of it, NAME--vN; default: the model itself"""
    weight: int = Field(default=1, ge=1, le=1000)
    """share of the requests, relative to the other targets"""


class GatewayAlias(Model):
    name: ModelName
    """model name that clients ask for"""
    targets: list[AliasTarget] = Field(min_length=1)
    """what answers; several with weights are a canary"""


class Gateway(Model):
    cluster: str
    """one of clusters; all models served there are behind the gateway"""
    pool: str
    """one of pools, in that cluster; where the gateway runs"""
    environment: DnsLabel = "litellm"
    """images/environments/<name>"""
    image: DnsLabel
    """images/containers/<name>"""
    replicas: int = Field(default=2, ge=1)
    memory: Quantity = Field(default=GIB, ge=GIB // 2)
    """memory limit per replica"""
    node_port: int | None = Field(default=None, ge=30000, le=32767)
    """port on every node; default: none (cluster only)"""
    teams: list[DnsLabel] = Field(default_factory=list)
    """each gets a key: stack output gateway_keys"""
    aliases: list[GatewayAlias] = Field(default_factory=list)
    """further model names; default: none"""


class Fabric(Model):
    resource: str = Field(default="beta.hpe.com/cxi", pattern=r"^[a-z0-9.-]+/[a-z0-9.-]+$")
    """of the device plugin"""
    cards: int = Field(default=4, ge=1)
    """network cards of one node"""
    namespace: DnsLabel = "kube-system"
    """of the NetworkAttachmentDefinitions"""
    networks: list[DnsLabel] = Field(default_factory=lambda: ["hsn0", "hsn1", "hsn2", "hsn3"])
    """NetworkAttachmentDefinitions of Multus, one per card"""
    environment: dict[str, str] = Field(default_factory=dict)
    """variables of NCCL and libfabric that are not as in modules/high_speed_net.py; "" leaves one out"""

    @model_validator(mode="after")
    def _one_network_per_card(self) -> "Fabric":
        if len(self.networks) != self.cards:
            raise ValueError(f"{self.cards} cards and {len(self.networks)} networks; each card has one")
        return self


class SloObjective(Model):
    model: str
    """one of services.models"""
    good: float = Field(default=0.999, gt=0, lt=1)
    """share of requests that end with an answer"""
    first_word_seconds: Annotated[float, AfterValidator(first_word_bound)] = 2.5
    """a request waits for its first word: 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40 or 80"""
    in_time: float = Field(default=0.95, gt=0, lt=1)
    """share of requests that wait no longer"""


class Slo(Model):
    cluster: str
    """one of clusters; all models served there are watched"""
    pool: str
    """one of pools, in that cluster; where Prometheus runs"""
    image: DnsLabel = "prometheus"
    """images/containers/<name>"""
    memory: Quantity = Field(default=GIB // 2, ge=GIB // 4)
    """memory limit; a quarter of it is for samples"""
    node_port: int | None = Field(default=None, ge=30000, le=32767)
    """port on every node; default: none (cluster only)"""
    objectives: list[SloObjective] = Field(default_factory=list)
    """of models for which the defaults are not right"""


class RetrievalCollection(Model):
    name: DnsLabel
    """directory below <shared>/retrieval"""
    model: str
    """one of services.models, in the cluster of the gateway; it answers"""
    alias: ModelName = Field(
        default_factory=lambda data: f"{data.get('model', 'model')}-with-{data.get('name', 'name')}",
        validate_default=True,
    )
    """model name that clients ask for; default: <model>-with-<name>"""
    top_k: int = Field(default=4, ge=1, le=20)
    """passages per question"""
    answer_tokens: int = Field(default=512, ge=1)
    """tokens kept for the answer where a request does not say max_tokens"""
    passage_length: int = Field(default=1000, ge=200, le=8000)
    """characters of a passage at most"""
    overlap: int = Field(default=150, ge=0, le=2000)
    """characters of a passage that the next one repeats at most"""

    @model_validator(mode="after")
    def _goes_on(self) -> "RetrievalCollection":
        if self.overlap > self.passage_length // 2:
            raise ValueError(
                f"overlap {self.overlap} is more than half of passage_length {self.passage_length}; "
                "passages would repeat each other"
            )
        return self


class Retrieval(Model):
    pool: str
    """one of pools, in the cluster of the gateway; where it runs"""
    environment: DnsLabel = "retrieval"
    """images/environments/<name>"""
    image: DnsLabel
    """images/containers/<name>"""
    replicas: int = Field(default=2, ge=1)
    memory: Quantity = Field(default=GIB // 2, ge=GIB // 4)
    """memory limit per replica"""
    embeddings: ModelName = "embeddings"
    """model name under which clients ask for embeddings"""
    collections: list[RetrievalCollection] = Field(default_factory=list)
    """documents that models answer from; default: none, embeddings only"""


class Services(Model):
    models: list[ServedModel] = Field(default_factory=list)
    gateway: Gateway | None = None
    """one address for all models of a cluster, with keys; default: none"""
    fine_tuning: FineTuning | None = None
    """fine-tuning runs; default: none"""
    fabric: Fabric | None = None
    """the Slingshot network, for models over several nodes; default: pods have it already"""
    slo: Slo | None = None
    """Prometheus that watches models, and calls when an objective is missed; default: none"""
    retrieval: Retrieval | None = None
    """embeddings, and models that look things up first; behind the gateway; default: none"""
    batch_queues: BatchQueues | None = None
    """queues for fine-tuning runs; default: none, each starts at once"""


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
