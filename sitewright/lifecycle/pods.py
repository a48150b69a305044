"""The pods of a node: which of them a drain takes away, and which it leaves alone.

Source: Kubernetes documentation, Safely Drain a Node, and `kubectl drain` (k8s.io/kubectl/pkg/drain/filters.go).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kubernetes import client

from sitewright.kubernetes_api import call

MIRROR = "kubernetes.io/config.mirror"


@dataclass(frozen=True)
class Pod:
    """A pod on a node.

    owner:   `Deployment/x` and the like, "" for a pod that nobody makes again.
    grace:   seconds it has to end; ending: since when it was told to, seconds since the epoch, or None.
    stays:   why a drain leaves it alone, "" if it goes; scratch: it has an emptyDir, which goes with it.
    """

    node: str
    namespace: str
    name: str
    uid: str
    owner: str
    grace: int
    ending: float | None
    stays: str
    scratch: bool

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def pods_of(node: str) -> list[Pod]:
    """Every pod that the cluster has on the node, by namespace and name."""
    found = call(client.CoreV1Api().list_pod_for_all_namespaces, field_selector=f"spec.nodeName={node}").items
    return sorted((_pod(one) for one in found), key=str)


def _pod(pod: Any) -> Pod:
    owner = next((one for one in pod.metadata.owner_references or [] if one.controller), None)
    told = pod.metadata.deletion_timestamp
    grace = pod.metadata.deletion_grace_period_seconds if told else pod.spec.termination_grace_period_seconds
    return Pod(
        node=pod.spec.node_name,
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        owner=f"{owner.kind}/{owner.name}" if owner else "",
        grace=int(grace or 0),
        # The API's deletionTimestamp is when the time to end is over, not when it began.
        ending=told.timestamp() - int(grace or 0) if told else None,
        stays=_why_it_stays(pod, owner),
        scratch=any(volume.empty_dir for volume in pod.spec.volumes or []),
    )


def _why_it_stays(pod: Any, owner: Any) -> str:
    if MIRROR in (pod.metadata.annotations or {}):
        return "the kubelet itself runs it, from a file"
    if pod.status.phase in ("Succeeded", "Failed"):
        return "has ended"
    if owner and owner.kind == "DaemonSet":
        return "runs on every node"
    return ""


def now() -> float:
    return datetime.now(UTC).timestamp()
