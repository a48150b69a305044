"""Pods that are on nodes, in a real API server: no scheduler put them there, and a kubelet only if the test has one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kubernetes import client

OWNER = {
    "apiVersion": "apps/v1",
    "name": "web",
    "uid": "11111111-2222-3333-4444-555555555555",
    "controller": True,
}


def add_pod(name: str, node: str, owner: str = "ReplicaSet", grace: int = 0, **more: Any) -> Any:
    """owner: kind of what makes it again, "" for nobody. grace: seconds it has to end. more: labels, annotations,
    volumes."""
    metadata: dict[str, Any] = {
        "name": name,
        "labels": more.get("labels"),
        "annotations": more.get("annotations"),
    }
    if owner:
        metadata["ownerReferences"] = [{**OWNER, "kind": owner}]
    spec = {
        "nodeName": node,
        "terminationGracePeriodSeconds": grace,
        "containers": [{"name": "web", "image": "registry/web"}],
        "volumes": more.get("volumes"),
        "tolerations": [{"operator": "Exists"}],
    }
    api = client.CoreV1Api()
    pod = api.create_namespaced_pod("default", {"metadata": metadata, "spec": spec})
    ready = [{"type": "Ready", "status": "True"}]
    status = {"status": {"phase": more.get("phase", "Running"), "conditions": ready}}
    api.patch_namespaced_pod_status(name, "default", status)
    return pod


def add_budget(name: str, labels: dict[str, str], allowed: int) -> None:
    """A disruption budget, with what its controller would write into it."""
    api = client.PolicyV1Api()
    spec = {"selector": {"matchLabels": labels}, "maxUnavailable": 1}
    api.create_namespaced_pod_disruption_budget("default", {"metadata": {"name": name}, "spec": spec})
    allow(name, allowed)


def allow(budget: str, allowed: int) -> None:
    counts = {"disruptionsAllowed": allowed, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}
    api = client.PolicyV1Api()
    generation = api.read_namespaced_pod_disruption_budget(budget, "default").metadata.generation
    status = {"status": {**counts, "observedGeneration": generation}}
    api.patch_namespaced_pod_disruption_budget_status(budget, "default", status)


def names() -> set[str]:
    return {pod.metadata.name for pod in client.CoreV1Api().list_namespaced_pod("default").items}


def clear() -> None:
    api = client.CoreV1Api()
    api.delete_collection_namespaced_pod("default", grace_period_seconds=0)
    client.PolicyV1Api().delete_collection_namespaced_pod_disruption_budget("default")
    for node in api.list_node().items:
        api.delete_node(node.metadata.name)


@contextmanager
def kubelet() -> Iterator[list[str]]:
    """Ends each pod that was told to end. Gives: `name grace` of those that it ended."""
    ended: list[str] = []
    stop = threading.Event()

    def run() -> None:
        api = client.CoreV1Api()
        while not stop.wait(0.05):
            for pod in api.list_namespaced_pod("default").items:
                if pod.metadata.deletion_timestamp is None:
                    continue
                ended.append(f"{pod.metadata.name} {pod.metadata.deletion_grace_period_seconds}")
                with suppress(client.ApiException):
                    api.delete_namespaced_pod(pod.metadata.name, "default", grace_period_seconds=0)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ended
    finally:
        stop.set()
        thread.join()
