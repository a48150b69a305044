"""What every replicated service of a cluster has: its Service, and the budget that a drain keeps to."""

from typing import Any


def service(
    name: str, namespace: str, labels: dict[str, str], port: int, node_port: int | None
) -> dict[str, Any]:
    """The Service of the pods that carry `labels`. node_port: on every node too; None: in the cluster only."""
    entry: dict[str, Any] = {"name": "http", "port": port, "targetPort": port}
    if node_port:
        entry["nodePort"] = node_port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            # Applied before its pods exist; the Deployment is what is waited for.
            "annotations": {"pulumi.com/skipAwait": "true"},
        },
        "spec": {
            "type": "NodePort" if node_port else "ClusterIP",
            "selector": dict(labels),
            "ports": [entry],
        },
    }


def disruption_budget(name: str, namespace: str, labels: dict[str, str]) -> dict[str, Any]:
    """A drain takes one of the pods that carry `labels` at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "maxUnavailable": 1,
            # What crashes in a loop must not block every drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": dict(labels)},
        },
    }
