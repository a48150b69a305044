"""What every replicated service of a cluster has: its Service, the budget that a drain keeps to, where replicas go, and
the parts of its network policy."""

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


def spread_over_nodes(labels: dict[str, str]) -> dict[str, Any]:
    """Where the pods that carry `labels` go: not two of one version onto a node before the others have one."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        # A cordoned node is not an empty one.
        "nodeTaintsPolicy": "Honor",
        "matchLabelKeys": ["pod-template-hash"],
        "labelSelector": {"matchLabels": dict(labels)},
    }


def pods(namespace: str, labels: dict[str, str]) -> dict[str, Any]:
    """Pods as one side of a network policy."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": labels},
    }


def to_names() -> dict[str, Any]:
    """The rule of a network policy that lets names be looked up."""
    return {
        "to": [pods("kube-system", {"k8s-app": "kube-dns"})],
        "ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")],
    }
