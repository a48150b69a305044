"""What a diskless node reads when it joins by itself: nothing in it is secret, since anybody can read cloud-init.

playbooks/roles/boot_node/files/node_join.py is the program that reads it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import Field

from modules.clusters.kubernetes_cluster import NODE_LEASE_SECONDS, rke2_registries
from modules.spec import Model

PATH = "/etc/kubernetes/node-join.json"


class NodeMemory(Model):
    """Bytes of a node of the pool: what pods may have, what they may not, and what is kept free; sizes of the tmpfs of
    container images, and of what pods write. Memory is the disk, see sitewright/site/memory.py."""

    allocatable: int = Field(gt=0)
    reserved: int = Field(ge=0)
    eviction: int = Field(gt=0)
    image_store: int = Field(gt=0)
    pod_files: int = Field(gt=0)


class Rke2Join(Model):
    version: str = Field(pattern=r"^\d+\.\d+\.\d+\+rke2r\d+$", description="of the cluster")
    server: str = Field(pattern=r"^https://[^/\s]+$", description="where agents find the cluster")
    registry: str = Field(pattern=r"^https?://[^/\s]+$", description="as nodes reach it")


def settings(
    endpoint: str,
    ca_certificate: str,
    identity: Sequence[str],
    dns_address: str,
    labels: Mapping[str, str],
    taints: Sequence[str],
    memory: NodeMemory,
    rke2: Rke2Join | None = None,
    boot_notice: bool = False,
) -> str:
    """JSON, the same for all nodes of a pool. identity: URLs of the service that signs. rke2: of a cluster of that
    distribution, whose nodes get token and password from that service too. boot_notice: whether a node has to say there
    that it boots, since the provisioner does not know."""
    found = {
        "endpoint": endpoint,
        "ca_certificate": ca_certificate.strip() + "\n",
        "identity": list(identity),
        "labels": dict(labels),
        "taints": list(taints),
        "kubelet": _kubelet(dns_address, memory) if rke2 is None else _kubelet_limits(memory),
        "memory": {
            "allocatable": memory.allocatable,
            "reserved": memory.reserved,
            "tmpfs": {
                "/var/lib/containerd" if rke2 is None else "/var/lib/rancher": memory.image_store,
                "/var/lib/kubelet": memory.pod_files,
            },
        },
        **({} if rke2 is None else {"rke2": _rke2(rke2)}),
        **({"boot_notice": True} if boot_notice else {}),
    }
    return json.dumps(found, indent=2, sort_keys=True)


def cloud_config(settings: str, ssh_public_key: str) -> str:
    """The text that the cloud-init server gives to the nodes of a pool."""
    file = {"path": PATH, "content": settings, "permissions": "0644"}
    return "#cloud-config\n" + yaml.safe_dump(
        {"ssh_authorized_keys": [ssh_public_key], "write_files": [file]}, sort_keys=False
    )


def _kubelet(dns_address: str, memory: NodeMemory) -> dict[str, Any]:
    """Without what a node adds itself: its taints, where the authority's certificate lies, what it reserves."""
    return {
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}},
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [dns_address],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "failCgroupV1": False,
        "rotateCertificates": True,
        **_kubelet_limits(memory),
    }


def _kubelet_limits(memory: NodeMemory) -> dict[str, Any]:
    """What is the site's to say whoever configures the rest: RKE2 does for its agents, and merges this into it."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "evictionHard": {
            "memory.available": str(memory.eviction),
            "nodefs.available": "5%",
            "imagefs.available": "5%",
        },
        "nodeStatusUpdateFrequency": "5s",
        "nodeLeaseDurationSeconds": NODE_LEASE_SECONDS,
        # Streams of a served model may take this long to end; see VllmService.
        "shutdownGracePeriod": "0s",
    }


def _rke2(join: Rke2Join) -> dict[str, Any]:
    """Without what a node adds itself: its name, address, labels and taints, and the file of its token.
    Source: RKE2 documentation, agent configuration reference."""
    configuration = {
        "server": join.server,
        "data-dir": "/var/lib/rancher/rke2",
        "snapshotter": "overlayfs",
        "selinux": False,
        "system-default-registry": join.registry.partition("://")[2],
    }
    return {
        "version": join.version,
        "config": configuration,
        "registries": rke2_registries(join.registry),
    }
