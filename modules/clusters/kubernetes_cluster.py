"""A Kubernetes control plane on VMs: kubeadm (what the lab runs) or RKE2 (air-gapped, what sites run)."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Literal

import pulumi
import pulumi_random
import yaml
from pydantic import Field, model_validator

from modules.spec import DNS_LABEL, Model
from sitewright.provider import PlaybookRun

API_PORT = 6443
NODE_LEASE_SECONDS = 24
"""A kubelet renews its lease four times in this time; five thousand nodes at Kubernetes' own 40 write as much."""
NODE_MONITOR = {"node-monitor-grace-period": "16s", "node-monitor-period": "2s"}
"""After so long without a renewal nobody is sent to a node's pods any more. Kubernetes' own is 50 s since 1.32."""
RKE2_JOIN_PORT = 9345
# What the address in front of a control plane must lead to; the first one says whether a server is well.
PORTS = {"kubeadm": (API_PORT,), "rke2": (API_PORT, RKE2_JOIN_PORT)}


class KubernetesClusterSpec(Model):
    name: str = Field(pattern=DNS_LABEL)
    distribution: Literal["kubeadm", "rke2"]
    version: str = Field(pattern=r"^\d+\.\d+\.\d+(\+rke2r\d+)?$", description="without the leading v")
    control_planes: tuple[str, ...] = Field(min_length=1, description="names of the VMs, the first one first")
    endpoint: IPv4Address = Field(description="virtual address, or the address of the only control plane")
    first_address: IPv4Address = Field(description="address of the first control plane")
    operator_server: str = Field(description="URL of the API as the operator's machine reaches it")
    pod_cidr: IPv4Network
    service_cidr: IPv4Network
    dns_address: IPv4Address
    registry: str = Field(pattern=r"^https?://[^/\s]+$", description="as the machines reach it")
    artifacts: str | None = Field(
        None,
        pattern=r"^(https?://|/)\S+$",
        description="rke2: the site's mirror of its releases, a URL or a directory; docs/rke2.md",
    )

    @model_validator(mode="after")
    def _one_or_three(self) -> "KubernetesClusterSpec":
        if len(self.control_planes) not in (1, 3):
            raise ValueError(f"{len(self.control_planes)} control planes: etcd keeps a majority with 1 or 3")
        if (self.distribution == "rke2") != ("+rke2r" in self.version):
            raise ValueError(f"version {self.version} is not one of distribution {self.distribution}")
        if self.artifacts and self.distribution != "rke2":
            raise ValueError(f"artifacts {self.artifacts}: only distribution rke2 is installed from a mirror")
        return self

    @property
    def operator_host(self) -> str:
        return self.operator_server.partition("://")[2].rpartition(":")[0]

    @property
    def registry_host(self) -> str:
        return self.registry.partition("://")[2]


def render_kubeadm(spec: KubernetesClusterSpec) -> str:
    """kubeadm's configuration, kubeadm.k8s.io/v1beta4.

    kube-proxy and CoreDNS are left out: the platform layer owns them, so that they show in previews.
    """
    init = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": str(spec.first_address), "bindPort": API_PORT},
        "nodeRegistration": {
            "name": spec.control_planes[0],
            "criSocket": "unix:///run/containerd/containerd.sock",
        },
    }
    cluster = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": spec.name,
        "kubernetesVersion": f"v{spec.version}",
        "controlPlaneEndpoint": f"{spec.endpoint}:{API_PORT}",
        "imageRepository": spec.registry_host,
        "networking": {"podSubnet": str(spec.pod_cidr), "serviceSubnet": str(spec.service_cidr)},
        "apiServer": {"certSANs": sorted({str(spec.endpoint), spec.operator_host})},
        "controllerManager": {
            "extraArgs": [{"name": name, "value": value} for name, value in NODE_MONITOR.items()]
        },
        "proxy": {"disabled": True},
        "dns": {"disabled": True, "imageRepository": f"{spec.registry_host}/coredns"},
    }
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [str(spec.dns_address)],
        "failSwapOn": False,
        # Hosts with the first version of control groups are still met; see docs/adr/0004.
        "failCgroupV1": False,
        "rotateCertificates": True,
        "nodeLeaseDurationSeconds": NODE_LEASE_SECONDS,
        "evictionHard": {"memory.available": "100Mi"},
    }
    return yaml.safe_dump_all([init, cluster, kubelet], sort_keys=False)


def rke2_registries(registry: str) -> dict[str, Any]:
    """registries.yaml of servers and nodes: images come from the site's registry, whatever host their name has."""
    return {"mirrors": {"*": {"endpoint": [registry]}}}


def render_rke2(spec: KubernetesClusterSpec) -> dict[str, str]:
    """The files of RKE2's servers by what they are for: first_server, server, registries.

    No file holds a token: `token-file` and `agent-token-file` name the files the role fills from secrets.
    Source: RKE2 documentation, configuration file and air-gap installation.
    """
    server: dict[str, Any] = {
        "token-file": "/etc/rancher/rke2/token",
        "write-kubeconfig-mode": "0600",
        "selinux": False,
        "agent-token-file": "/etc/rancher/rke2/agent-token",
        "system-default-registry": spec.registry_host,
        "cni": "cilium",
        "cluster-cidr": str(spec.pod_cidr),
        "service-cidr": str(spec.service_cidr),
        "cluster-dns": str(spec.dns_address),
        "kube-controller-manager-arg": [f"{name}={value}" for name, value in NODE_MONITOR.items()],
        "tls-san": sorted({str(spec.endpoint), spec.operator_host}),
    }
    join = {"server": f"https://{spec.endpoint}:{RKE2_JOIN_PORT}"}
    files = {
        "first_server": server,
        "server": join | server,
        "registries": rke2_registries(spec.registry),
    }
    return {name: yaml.safe_dump(content, sort_keys=False) for name, content in files.items()}


class KubernetesCluster(pulumi.ComponentResource):
    """A control plane that answers as ready.

    images:   references by digest of the images the cluster needs, `pause` among them.
    machines: identity of each VM by name. Another one is another machine with an empty disk, which the
              playbook has to bring into the cluster.
    ready:    what everything on the cluster depends on.
    agent_token: secret with which RKE2's agents join; None of another distribution.
    """

    def __init__(
        self,
        spec: KubernetesClusterSpec,
        environment: str,
        images: pulumi.Input[dict[str, str]],
        machines: Mapping[str, pulumi.Input[str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("sitewright:modules:KubernetesCluster", spec.name, None, opts)
        self.agent_token = (
            self._token(f"{spec.name}-rke2-agent-token") if spec.distribution == "rke2" else None
        )
        configuration = (
            {"kubeadm_configuration": render_kubeadm(spec)}
            if self.agent_token is None
            else {
                "rke2_files": render_rke2(spec),
                "rke2_artifacts": spec.artifacts,
                "rke2_token": self._token(f"{spec.name}-rke2-token"),
                "rke2_agent_token": self.agent_token,
            }
        )
        self.ready = PlaybookRun(
            f"bootstrap-{spec.name}",
            playbook="playbooks/bootstrap-cluster.yml",
            verify="playbooks/verify-cluster.yml",
            environment=environment,
            limit=f"control_plane_{spec.name}",
            variables={
                "cluster": spec.name,
                "distribution": spec.distribution,
                "version": spec.version,
                "endpoint_address": str(spec.endpoint),
                "operator_server": spec.operator_server,
                "registry": spec.registry,
                "pause_image": pulumi.Output.from_input(images).apply(lambda found: found["pause"]),
                **configuration,
            },
            triggers=machines,
            secret_results=["kubeconfig"],
            # A run on a cluster that exists keeps its authority and its address. (Where all its machines are
            # new, the cluster is too, and only the update itself shows what follows from that.)
            stable_results=["*"],
            # RKE2's servers start one after the other, each pulling its images first.
            timeout="15m" if spec.distribution == "kubeadm" else "45m",
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.kubeconfig: pulumi.Output[str] = pulumi.Output.secret(self.ready.result("kubeconfig"))
        self.endpoint: pulumi.Output[str] = self.ready.result("endpoint")
        self.ca_certificate: pulumi.Output[str] = self.ready.result("ca_certificate")
        self.register_outputs({"endpoint": self.endpoint})

    def _token(self, name: str) -> pulumi.Output[str]:
        """A secret that stays the same as long as the cluster exists."""
        password = pulumi_random.RandomPassword(
            name, length=48, special=False, opts=pulumi.ResourceOptions(parent=self)
        )
        return pulumi.Output.secret(password.result)
