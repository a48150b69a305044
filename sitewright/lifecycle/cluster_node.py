"""The Node object of a node: kept free of new pods, given back, and what it says of itself."""

from dataclasses import dataclass
from typing import Any

from kubernetes import client

from sitewright.errors import SitewrightError
from sitewright.kubernetes_api import Missing, call


@dataclass(frozen=True)
class ClusterNode:
    """A node as its cluster sees it. boot_id: of the kernel it runs, "" while it has said nothing."""

    name: str
    ready: bool
    cordoned: bool
    boot_id: str
    annotations: dict[str, str]


def find(name: str) -> ClusterNode | None:
    """The node, or None where the cluster has none of this name."""
    try:
        return _of(call(client.CoreV1Api().read_node, name))
    except Missing:
        return None


def read(name: str) -> ClusterNode:
    """The node. Raises: SitewrightError where the cluster that KUBECONFIG names has no such node."""
    if (found := find(name)) is None:
        raise SitewrightError(
            f"{name}: no such node in the cluster",
            "Does KUBECONFIG name the cluster of its pool? `sitewright nodes list` shows which nodes have joined.",
        )
    return found


def cordon(name: str) -> None:
    """Keep new pods off the node."""
    call(client.CoreV1Api().patch_node, name, {"spec": {"unschedulable": True}})


def uncordon(name: str) -> None:
    call(client.CoreV1Api().patch_node, name, {"spec": {"unschedulable": None}})


def _of(node: Any) -> ClusterNode:
    conditions = {one.type: one.status for one in node.status.conditions or []}
    info = node.status.node_info
    return ClusterNode(
        node.metadata.name,
        conditions.get("Ready") == "True",
        bool(node.spec.unschedulable),
        info.boot_id if info else "",
        dict(node.metadata.annotations or {}),
    )
