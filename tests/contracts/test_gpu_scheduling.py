"""Where pods with GPUs go, and who makes way, by the real scheduler: what we render, on nodes whose GPUs are numbers.

Nothing runs: a pod that the scheduler bound counts, and this test says of it what a kubelet would.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes
import pytest

from modules.inference.vllm_pod import BLADE_LABEL, VllmServiceSpec
from modules.inference.vllm_router import VllmRouterSpec
from modules.inference.vllm_router import render as render_router
from modules.inference.vllm_service import priority_class
from modules.inference.vllm_service import render as render_service
from modules.tuning.fine_tuning import FineTuningSpec
from modules.tuning.fine_tuning import render as render_tuning
from sitewright.site.names import POOL_LABEL
from sitewright.tuning.template import TEMPLATE, TrainingTemplate, job
from tests.contracts.fake_hypervisor import until
from tests.contracts.scheduled_cluster import add_node, apply, scheduled_cluster

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

CONTROLLERS = "deployment-controller,replicaset-controller,job-controller,garbage-collector-controller"
GIB = 2**30
TAINT = {"key": "sitewright.dev/gpu", "value": "true", "effect": "NoSchedule"}


class Gpus:
    """The cluster, with the part of the kubelets."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.core, self.apps = kubernetes.client.CoreV1Api(), kubernetes.client.AppsV1Api()

    def nodes(self, *names: str, gpus: int = 4, arch: str = "arm64") -> None:
        for name in names:
            labels = {POOL_LABEL: "gpu", BLADE_LABEL: name.rpartition("b")[0], "kubernetes.io/arch": arch}
            add_node(name, labels, gpus, [TAINT])

    def serve(self, name: str, change: Any = None, **more: Any) -> None:
        """change: what the test alters in the rendered Deployment first."""
        given = {"name": name, "image": "i@sha256:1", "python": "/s/bin/python", "model_path": "/s/m"}
        given |= {"pool": "gpu", "taints": ["sitewright.dev/gpu=true:NoSchedule"], "cpus": 1, "memory": GIB}
        *rest, deployment = render_service(VllmServiceSpec.model_validate({**given, **more}))
        deployment["spec"]["minReadySeconds"] = 1
        if change:
            change(deployment["spec"]["template"]["spec"])
        apply(self.kubeconfig, *rest, deployment)

    def train(self, name: str, gpus: int) -> None:
        tuned = {"path": "/s/m", "digest": "1", "python": "/s/bin/python", "image": "i@sha256:1"}
        given = {"pool": "gpu", "taints": ["sitewright.dev/gpu=true:NoSchedule"], "gpus": gpus, "cpus": 1}
        given |= {"memory": GIB, "publish_dir": "/s", "models": {"tiny": tuned}}
        namespace, _, config_map = render_tuning(FineTuningSpec.model_validate(given))
        template = TrainingTemplate.model_validate_json(config_map["data"][TEMPLATE])
        apply(self.kubeconfig, namespace, job(template, name, "tiny", 3600))

    def of(self, name: str) -> list[Any]:
        found = self.core.list_namespaced_pod(
            "default", label_selector=f"app.kubernetes.io/name={name}"
        ).items
        return [pod for pod in found if pod.metadata.deletion_timestamp is None]

    def runs(self) -> list[Any]:
        return self.core.list_namespaced_pod("fine-tuning").items

    def told_to_stop(self, count: int) -> list[Any]:
        found = [pod for pod in self.runs() if pod.metadata.deletion_timestamp is not None]
        return found if len(found) == count else []

    def placed(self, name: str, count: int) -> list[str]:
        """The nodes of all pods of a service, once there are so many."""
        return [pod.spec.node_name for pod in self._bound(lambda: self.of(name), count, name)]

    def trains(self, count: int) -> list[Any]:
        return self._bound(self.runs, count, "runs")

    def _bound(self, pods: Any, count: int, what: str) -> list[Any]:
        def all_of_them() -> list[Any]:
            found = [pod for pod in pods() if pod.spec.node_name]
            return found if len(found) == count else []

        return until(all_of_them, f"{count} pods of {what} are on nodes", 30)

    def kubelets(self) -> None:
        """What is bound runs and is Ready, what is to end has ended."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        ready = [
            {"type": kind, "status": "True", "lastTransitionTime": now}
            for kind in ("Ready", "ContainersReady")
        ]
        for pod in self.core.list_pod_for_all_namespaces().items:
            where = (pod.metadata.name, pod.metadata.namespace)
            if pod.metadata.deletion_timestamp is not None:
                self.core.patch_namespaced_pod_status(*where, {"status": {"phase": "Failed"}})
                self.core.delete_namespaced_pod(*where, grace_period_seconds=0)
            elif pod.spec.node_name and pod.status.phase == "Pending":
                self.core.patch_namespaced_pod_status(
                    *where, {"status": {"phase": "Running", "conditions": ready}}
                )

    def unplaced(self, name: str) -> str:
        """Why a pod of the service is on no node, once the scheduler has said so."""

        def said() -> str:
            found = [
                condition.message
                for pod in self.of(name)
                for condition in pod.status.conditions or []
                if condition.type == "PodScheduled" and condition.status == "False" and not pod.spec.node_name
            ]
            return str(found[0]) if found else ""

        return until(said, f"the scheduler says why {name} has no node", 30)

    def clear(self) -> None:
        for kind in ("deployments", "jobs"):
            api, version = ("apps", "v1") if kind == "deployments" else ("batch", "v1")
            for namespace in ("default", "fine-tuning"):
                kubernetes.client.CustomObjectsApi().delete_collection_namespaced_custom_object(
                    api, version, namespace, kind, propagation_policy="Background"
                )
        until(self._swept, "all pods are gone", 60)
        for node in self.core.list_node().items:
            self.core.delete_node(node.metadata.name)

    def _swept(self) -> bool:
        for pod in self.core.list_pod_for_all_namespaces().items:
            where = (pod.metadata.name, pod.metadata.namespace)
            try:
                self.core.patch_namespaced_pod(*where, {"metadata": {"finalizers": None}})
                self.core.delete_namespaced_pod(*where, grace_period_seconds=0)
            except kubernetes.client.ApiException as error:
                # The garbage collector was quicker.
                if error.status != 404:
                    raise
        return not self.core.list_pod_for_all_namespaces().items


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpus]:
    with scheduled_cluster(tmp_path_factory.mktemp("gpus"), CONTROLLERS) as kubeconfig:
        apply(kubeconfig, priority_class())
        yield Gpus(kubeconfig)


@pytest.fixture
def gpus(cluster: Gpus) -> Iterator[Gpus]:
    yield cluster
    cluster.clear()


def test_replicas_go_to_different_blades(gpus: Gpus) -> None:
    gpus.nodes("x1000c0s0b0n0", "x1000c0s0b1n0", "x1000c0s1b0n0", "x1000c0s1b1n0")
    gpus.serve("chat", gpus=4, replicas=2)
    assert {node.rpartition("b")[0] for node in gpus.placed("chat", 2)} == {"x1000c0s0", "x1000c0s1"}


def test_one_gpu_each_fills_two_nodes_evenly(gpus: Gpus) -> None:
    gpus.nodes("x1000c0s0b0n0", "x1000c0s1b0n0")
    gpus.serve("small", gpus=1, replicas=8)
    assert Counter(gpus.placed("small", 8)) == {"x1000c0s0b0n0": 4, "x1000c0s1b0n0": 4}


def _counts_cordoned_nodes(pod: dict[str, Any]) -> None:
    for constraint in pod["topologySpreadConstraints"]:
        del constraint["nodeTaintsPolicy"]


@pytest.mark.parametrize(("change", "replaced"), [(None, True), (_counts_cordoned_nodes, False)])
def test_a_drained_node_does_not_keep_its_replica_from_coming_back(
    gpus: Gpus, change: Any, replaced: bool
) -> None:
    """With Kubernetes' own default a cordoned node is an empty one, which has to be filled first."""
    gpus.nodes("x1000c0s0b0n0", "x1000c0s1b0n0", "x1000c0s2b0n0")
    gpus.serve("chat", change, gpus=1, replicas=3)
    assert len(set(gpus.placed("chat", 3))) == 3
    # The taint is what the node's controller adds, which is not here: it would find that no kubelet answers.
    cordoned = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    gpus.core.patch_node("x1000c0s1b0n0", {"spec": {"unschedulable": True, "taints": [TAINT, cordoned]}})
    [lost] = [pod for pod in gpus.of("chat") if pod.spec.node_name == "x1000c0s1b0n0"]
    gpus.core.delete_namespaced_pod(lost.metadata.name, "default", grace_period_seconds=0)
    if replaced:
        assert sorted(Counter(gpus.placed("chat", 3)).values()) == [1, 2]
    else:
        assert "topology spread constraints" in gpus.unplaced("chat")


def test_a_model_takes_gpus_from_runs_and_they_are_told_to_stop(gpus: Gpus) -> None:
    gpus.nodes("x1000c0s0b0n0")
    for place in range(4):
        gpus.train(f"run-{place}", gpus=1)
    gpus.trains(4)
    gpus.kubelets()
    gpus.serve("chat", gpus=2, replicas=1)
    ending = until(lambda: gpus.told_to_stop(2), "two runs make way", 30)
    for pod in ending:
        conditions = {one.type: one.reason for one in pod.status.conditions}
        assert conditions["DisruptionTarget"] == "PreemptionByScheduler", "so that it counts as no failure"
        assert pod.metadata.deletion_grace_period_seconds == 600, "time to write a checkpoint"
    gpus.kubelets()
    assert gpus.placed("chat", 1) == ["x1000c0s0b0n0"]
    running = [pod for pod in gpus.runs() if pod.status.phase == "Running"]
    assert len(running) == 2, "no more than needed made way"


def test_a_model_takes_nothing_from_another_model(gpus: Gpus) -> None:
    gpus.nodes("x1000c0s0b0n0")
    gpus.serve("first", gpus=4, replicas=1)
    gpus.placed("first", 1)
    gpus.kubelets()
    gpus.serve("second", gpus=1, replicas=1)
    assert "Insufficient nvidia.com/gpu" in gpus.unplaced("second")
    assert len(gpus.of("first")) == 1


def test_more_gpus_than_a_node_has_are_told(gpus: Gpus) -> None:
    gpus.nodes("x1000c0s0b0n0")
    gpus.serve("large", gpus=8, replicas=1)
    assert "Insufficient nvidia.com/gpu" in gpus.unplaced("large")


def test_an_update_needs_no_spare_gpu(gpus: Gpus) -> None:
    gpus.nodes("x1000c0s0b0n0", "x1000c0s1b0n0")
    gpus.serve("chat", gpus=4, replicas=2)
    gpus.placed("chat", 2)
    gpus.kubelets()
    before = {pod.metadata.uid for pod in gpus.of("chat")}
    gpus.serve("chat", gpus=4, replicas=2, model_digest="other weights")
    fewest = []

    def updated() -> bool:
        gpus.kubelets()
        pods = gpus.of("chat")
        fewest.append(sum(pod.status.phase == "Running" for pod in pods))
        return len(pods) == 2 and fewest[-1] == 2 and not before & {pod.metadata.uid for pod in pods}

    until(updated, "both replicas are new", 60)
    assert min(fewest) >= 1, "one of two serves all the time"


def test_a_program_for_another_processor_waits_for_a_node_that_can_run_it(gpus: Gpus) -> None:
    """vllm-router has no wheel for arm64 (docs/router.md)."""
    gpus.nodes("x1000c0s0b0n0", arch="arm64")
    spec = {"model": "chat", "image": "i@sha256:1", "python": "/s/bin/python", "pool": "gpu", "replicas": 1}
    spec |= {"taints": ["sitewright.dev/gpu=true:NoSchedule"]}
    apply(gpus.kubeconfig, *copy.deepcopy(render_router(VllmRouterSpec.model_validate(spec))))
    assert "didn't match Pod's node affinity/selector" in gpus.unplaced("chat-router")
    gpus.nodes("x1000c0s7b0n0", arch="amd64")
    assert gpus.placed("chat-router", 1) == ["x1000c0s7b0n0"]


def test_a_model_built_for_h100_does_not_start_on_gh200(gpus: Gpus) -> None:
    gpus.nodes("x1000c0s0b0n0", arch="arm64")
    gpus.serve("chat", gpus=4, replicas=1, flavour="h100")
    assert "didn't match Pod's node affinity/selector" in gpus.unplaced("chat")
    gpus.nodes("x1000c0s7b0n0", arch="amd64")
    assert gpus.placed("chat", 1) == ["x1000c0s7b0n0"]
