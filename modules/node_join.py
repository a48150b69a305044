"""What a diskless node reads when it joins by itself: nothing in it is secret, since anybody can read cloud-init.

playbooks/roles/boot_node/files/node_join.py is the program that reads it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

PATH = "/etc/kubernetes/node-join.json"


def settings(
    endpoint: str,
    ca_certificate: str,
    identity: Sequence[str],
    dns_address: str,
    labels: Mapping[str, str],
    taints: Sequence[str],
) -> str:
    """JSON, the same for all nodes of a pool. identity: URLs of the service that signs."""
    found = {
        "endpoint": endpoint,
        "ca_certificate": ca_certificate.strip() + "\n",
        "identity": list(identity),
        "labels": dict(labels),
        "taints": list(taints),
        "kubelet": _kubelet(dns_address),
    }
    return json.dumps(found, indent=2, sort_keys=True)


def cloud_config(settings: str, ssh_public_key: str) -> str:
    """The text that the cloud-init server gives to the nodes of a pool."""
    file = {"path": PATH, "content": settings, "permissions": "0644"}
    return "#cloud-config\n" + yaml.safe_dump(
        {"ssh_authorized_keys": [ssh_public_key], "write_files": [file]}, sort_keys=False
    )


def _kubelet(dns_address: str) -> dict[str, Any]:
    """Without what a node adds itself: its taints, and where the authority's certificate lies."""
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
        # Memory is the disk: what a full root takes is missing from pods.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "5%", "imagefs.available": "5%"},
        "nodeStatusUpdateFrequency": "5s",
        # Streams of a served model may take this long to end; see VllmService.
        "shutdownGracePeriod": "0s",
    }
