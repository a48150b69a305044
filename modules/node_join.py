"""What a diskless node reads when it joins by itself: nothing in it is secret, since anybody can read cloud-init.

playbooks/roles/boot_node/files/node_join.py is the program that reads it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import Field

from modules.kubernetes_cluster import NODE_LEASE_SECONDS
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


def settings(
    endpoint: str,
    ca_certificate: str,
    identity: Sequence[str],
    dns_address: str,
    labels: Mapping[str, str],
    taints: Sequence[str],
    memory: NodeMemory,
) -> str:
    """JSON, the same for all nodes of a pool. identity: URLs of the service that signs."""
    found = {
        "endpoint": endpoint,
        "ca_certificate": ca_certificate.strip() + "\n",
        "identity": list(identity),
        "labels": dict(labels),
        "taints": list(taints),
        "kubelet": _kubelet(dns_address, memory),
        "memory": {
            "allocatable": memory.allocatable,
            "reserved": memory.reserved,
            "tmpfs": {
                "/var/lib/containerd": memory.image_store,
                "/var/lib/kubelet": memory.pod_files,
            },
        },
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
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}},
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [dns_address],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "failCgroupV1": False,
        "rotateCertificates": True,
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
