"""A researcher whose runs wait in queues, and the queues. The real Kueue decides; what pods do, the test says."""

from __future__ import annotations

import re
from typing import Any

import kubernetes

from modules.queues.batch_queues import KUEUE
from modules.queues.batch_queues_spec import BatchQueuesSpec
from tests.contracts.fake_hypervisor import until
from tests.contracts.test_tune import Researcher

GIB = 2**30
GROUP, VERSION = KUEUE.split("/")
NAMESPACE = "fine-tuning"
ENDED_BY_SIGTERM = 75
QUEUES = BatchQueuesSpec.model_validate(
    {
        "image": "kueue@sha256:1",
        "pool": "gpu",
        "flavors": [
            {
                "pool": "gpu",
                "guaranteed": {"cpus": 4, "memory": 16 * GIB, "gpus": 1},
                "lendable": {"gpus": 1},
                "fine_tuning": {"cpus": 4, "memory": 8 * GIB, "gpus": 1},
            }
        ],
        "teams": ["climate", "materials"],
        "priorities": {"urgent": 100, "scavenger": -100},
    }
)


class Queuer(Researcher):
    """A researcher whose runs wait in queues. Its pods do what the test says: no kubelet is there."""

    def starts(self, name: str, *more: object) -> str:
        """A run that was submitted and whose pod runs."""
        run = self.submits("--name", name, *more)
        self.pod_runs(run)
        return run

    def pod(self, run: str) -> Any:
        """The pod of a run that nobody ends; None while there is none."""
        pods = self.core.list_namespaced_pod(NAMESPACE, label_selector=f"sitewright.dev/run={run}").items
        return next((found for found in pods if found.metadata.deletion_timestamp is None), None)

    def ending(self, run: str) -> Any:
        pods = self.core.list_namespaced_pod(NAMESPACE, label_selector=f"sitewright.dev/run={run}").items
        return next((found for found in pods if found.metadata.deletion_timestamp is not None), None)

    def pod_runs(self, run: str) -> None:
        pod = until(lambda: self.placed(run), f"{run} has a pod on a node", 30)
        ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]
        self.says(pod, {"phase": "Running", "conditions": ready, "containerStatuses": [container("running")]})
        until(lambda: self.state(run) == "running", f"{run} runs", 30)

    def pod_ends(self, pod: Any, status: int) -> None:
        """Its program ends. A pod that was to be deleted is gone then."""
        phase = "Succeeded" if status == 0 else "Failed"
        ended = {"exitCode": status, "startedAt": None, "finishedAt": None}
        self.says(
            pod, {"phase": phase, "conditions": [], "containerStatuses": [container("terminated", ended)]}
        )
        if pod.metadata.deletion_timestamp is not None:
            self.core.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=0)

    def state(self, run: str) -> str:
        found = re.search(rf"(?m)^{run}: (\w+)", self.types("tune", "logs", run).output)
        assert found
        return found[1]

    def job(self, run: str) -> Any:
        return self.batch.read_namespaced_job(run, NAMESPACE)

    def waits_because(self, run: str, state: str, reason: str) -> str:
        """The line of the list that says so, once it does."""
        wanted = re.compile(rf"(?m)^{run} {state}: .*{reason}.*$")
        listed = lambda: wanted.search(self.types("tune", "list").output)  # noqa: E731
        return until(listed, f"{run} {state}: {reason}; {self.types('tune', 'list').output}", 30)[0]

    def cancels(self, run: str) -> None:
        """And its pod, where there is one, writes a checkpoint and ends."""
        self.types("tune", "cancel", run)

        def gone() -> bool:
            if (pod := self.ending(run)) is not None:
                self.pod_ends(pod, ENDED_BY_SIGTERM)
            return self.state(run) == "cancelled"

        until(gone, f"{run} is gone", 30)

    def placed(self, run: str) -> Any:
        pod = self.pod(run)
        return pod if pod is not None and pod.spec.node_name else None

    def says(self, pod: Any, status: dict[str, Any]) -> None:
        self.core.patch_namespaced_pod_status(pod.metadata.name, NAMESPACE, {"status": status})


def container(state: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    given = {"name": "train", "image": "i", "imageID": "i", "restartCount": 0, "ready": state == "running"}
    return {**given, "state": {state: more or {"startedAt": None}}}


def objects(plural: str, namespace: str | None = None) -> list[dict[str, Any]]:
    api = kubernetes.client.CustomObjectsApi()
    if namespace is None:
        return api.list_cluster_custom_object(GROUP, VERSION, plural)["items"]
    return api.list_namespaced_custom_object(GROUP, VERSION, namespace, plural)["items"]


def workloads() -> list[dict[str, Any]]:
    return objects("workloads", NAMESPACE)


def active(found: dict[str, Any]) -> bool:
    conditions = found.get("status", {}).get("conditions", ())
    return any(one["type"] == "Active" and one["status"] == "True" for one in conditions)
