"""What services of a cluster have in common: a Service, a budget, where pods go, and parts of network policies."""

import hashlib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from modules.spec import quantity

NOBODY = 65534
PRE_STOP_SECONDS = 15  # until every node has stopped sending to the pod
WATCHER = "serving-slo"  # label of the component that reads metrics


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


def settings(metadata: Mapping[str, Any], data: Mapping[str, str]) -> dict[str, Any]:
    """A ConfigMap for programs that read it once, when they start: other data are another one, of another name.

    A pod that names it starts with these data or not at all. Changed in place, they may come to a node after the pod:
    objects are applied side by side, and a kubelet looks at what it knows already.
    """
    digest = hashlib.sha256("\0".join(f"{name}\0{text}" for name, text in sorted(data.items())).encode())
    named = {**metadata, "name": f"{metadata['name']}-{digest.hexdigest()[:10]}"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "immutable": True, "data": dict(data)}


def ending(grace: int) -> dict[str, Any]:
    """How the pod of a Python program ends. grace: seconds from the wish to its kill.

    Process 1 of a pod ignores SIGTERM until it handles it (pid_namespaces(7)): a program told to end while it still
    imported what it needs used all of its grace, and held up the update behind it. In the pod's own namespace of
    processes it is another one, and just ends.
    """
    return {"terminationGracePeriodSeconds": grace, "shareProcessNamespace": True}


def followed(port: int, alive: str, ready: str, start_seconds: int) -> dict[str, Any]:
    """How a kubelet follows the server of a container, and ends it: not before nobody sends to it any more.

    alive, ready: paths that it answers; start_seconds: from its start until it does.
    """
    lives, serves = ({"httpGet": {"path": path, "port": port}} for path in (alive, ready))
    return {
        # Native sleep: the image needs no shell.
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        "startupProbe": {**lives, "periodSeconds": 2, "failureThreshold": start_seconds // 2},
        "readinessProbe": {**serves, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**lives, "periodSeconds": 15, "timeoutSeconds": 10, "failureThreshold": 4},
    }


def needs(cpu: str, memory: int) -> dict[str, Any]:
    """Resources of a container. No limit on CPU: throttling a serving process costs more than sharing."""
    amount = quantity(memory)
    return {"requests": {"cpu": cpu, "memory": amount}, "limits": {"memory": amount}}


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


def reads_pods(name: str, namespace: str, labels: dict[str, str]) -> list[dict[str, Any]]:
    """A ServiceAccount that may see the pods of its namespace, and nothing else."""
    group = "rbac.authorization.k8s.io"
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": dict(metadata)},
        {
            "apiVersion": f"{group}/v1",
            "kind": "Role",
            "metadata": dict(metadata),
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": dict(metadata),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    ]


def to_api_servers(addresses: Iterable[IPv4Address], port: int) -> list[dict[str, Any]]:
    """Egress rule of a network policy; none where no address is known.

    The addresses are those the servers listen at themselves: a policy sees a connection behind the Service.
    """
    servers = [{"ipBlock": {"cidr": f"{address}/32"}} for address in addresses]
    return [{"to": servers, "ports": [{"protocol": "TCP", "port": port}]}] if servers else []


def to_names() -> dict[str, Any]:
    """Egress rule of a network policy: to the cluster's DNS."""
    return {
        "to": [pods_of("kube-system", {"k8s-app": "kube-dns"})],
        "ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")],
    }


def pods_of(namespace: str, labels: dict[str, str]) -> dict[str, Any]:
    """Peer of a network policy."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": labels},
    }


def toleration(taint: str) -> dict[str, str]:
    """Of a taint as kubectl writes it: `key=value:Effect`, `key:Effect`."""
    identity, _, effect = taint.rpartition(":")
    key, has_value, value = identity.partition("=")
    wanted = {"operator": "Equal", "value": value} if has_value else {"operator": "Exists"}
    return {"key": key, **wanted, "effect": effect}


def unprivileged(user: int = NOBODY, own_volumes: bool = False) -> dict[str, Any]:
    """Security context of a pod. own_volumes: they belong to the user's group, so that it may use them."""
    group = {"fsGroup": user} if own_volumes else {}
    seccomp = {"seccompProfile": {"type": "RuntimeDefault"}}
    return {"runAsNonRoot": True, "runAsUser": user, "runAsGroup": user, **group, **seccomp}


def locked_down() -> dict[str, Any]:
    """Security context of a container that needs no right of root and writes to its volumes only."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def open_to(clients: Iterable[IPv4Network], port: int) -> dict[str, Any]:
    """Ingress rule of a network policy: pods of the namespace, and these networks."""
    networks = [{"ipBlock": {"cidr": str(network)}} for network in clients]
    return {"from": [{"podSelector": {}}, *networks], "ports": [{"protocol": "TCP", "port": port}]}


def open_to_watcher(port: int) -> dict[str, Any]:
    """Ingress rule of a network policy: whoever reads metrics in the namespace, nobody else."""
    watcher = {"podSelector": {"matchLabels": {"app.kubernetes.io/component": WATCHER}}}
    return {"from": [watcher], "ports": [{"protocol": "TCP", "port": port}]}
