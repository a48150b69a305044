"""GPUs in the lab are numbers that its nodes claim to have: where pods go, who waits, and who makes way is real.

Manifests, scheduler, kubelets and Kueue are those of the site; what runs in the containers only waits.
tests/contracts/test_gpu_scheduling.py has more cases, on nodes that are objects only.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from modules.inference.vllm_service import VllmServiceSpec
from modules.inference.vllm_service import render as render_service
from modules.queues.batch_queues import FINE_TUNING
from sitewright.tuning.template import CONFIG_MAP, GPU, STOPPED, TEMPLATE, TrainingTemplate, Turn, job
from tests.lab.conftest import Run, eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

PATCHED = "/status/capacity/nvidia.com~1gpu"
WAITS = f"import signal, sys; signal.signal(15, lambda *_: sys.exit({STOPPED})); signal.pause()"
RUNS = ("jobs", "-n", "fine-tuning", "-l", "sitewright.dev/test=gpus")


class Gpus:
    """The lab's cluster, as its operator sees it."""

    def __init__(self, kubectl: Run) -> None:
        self.kubectl = kubectl
        template = self.one("configmap", "-n", "fine-tuning", CONFIG_MAP)
        self.template = TrainingTemplate.model_validate_json(template["data"][TEMPLATE])

    def one(self, *what: str) -> dict[str, Any]:
        return json.loads(self.kubectl("get", *what, "-o", "json").stdout)

    def apply(self, *manifests: dict[str, Any]) -> None:
        self.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(manifests))

    def serve(self, name: str, **more: Any) -> None:
        tuned = self.template.models["tiny"]
        given = {"name": name, "image": tuned.image, "python": tuned.python, "model_path": tuned.path}
        given |= {"pool": "gpu", "cpus": 1, "memory": 2**28}
        *_, deployment = render_service(VllmServiceSpec.model_validate({**given, **more}))
        waiting(deployment["spec"]["template"]["spec"], tuned.python)
        self.apply(deployment)

    def train(self, name: str, gpus: int, priority: str = "") -> None:
        template = self.template.model_copy(update={"gpus": gpus, "cpus": 1, "memory": "64Mi"})
        made = job(template, name, "tiny", 3600, Turn("demo", priority))
        made["metadata"]["labels"]["sitewright.dev/test"] = "gpus"
        waiting(made["spec"]["template"]["spec"], template.models["tiny"].python)
        self.apply(made)

    def nodes(self, name: str) -> list[str]:
        """Where the pods of a service run; each of them, whether it shares a node with another one or not."""
        pods = self.one("pods", "-l", f"app.kubernetes.io/name={name}")["items"]
        return sorted(pod["spec"]["nodeName"] for pod in pods if pod["status"]["phase"] == "Running")

    def unplaced(self, name: str) -> str:
        """What the scheduler says of a pod that is on no node."""
        pods = self.one("pods", "-l", f"app.kubernetes.io/name={name}")["items"]
        said = [
            one
            for pod in pods
            for one in pod["status"].get("conditions", [])
            if one["type"] == "PodScheduled"
        ]
        return " ".join(one.get("message", "") for one in said if one["status"] == "False")

    def running(self) -> list[str]:
        """Runs with a pod that is not being ended."""
        pods = self.one("pods", "-n", "fine-tuning")["items"]
        return sorted(
            pod["metadata"]["labels"]["sitewright.dev/run"]
            for pod in pods
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        )

    def waits(self, name: str) -> str:
        """What Kueue says of a run that it does not let go."""
        found = self.one("workloads.kueue.x-k8s.io", "-n", "fine-tuning")["items"]
        own = [one for one in found if one["metadata"]["ownerReferences"][0]["name"] == name]
        said = [condition for one in own for condition in one.get("status", {}).get("conditions", [])]
        return " ".join(
            one["message"] for one in said if one["type"] == "QuotaReserved" and one["status"] == "False"
        )

    def quota(self, gpus: int) -> None:
        [group] = self.one("clusterqueue", FINE_TUNING)["spec"]["resourceGroups"]
        for resource in group["flavors"][0]["resources"]:
            if resource["name"] == GPU:
                resource["nominalQuota"] = str(gpus)
            if resource["name"] == "cpu":
                resource["nominalQuota"] = "16"
        patch = {"spec": {"resourceGroups": [group]}}
        self.kubectl("patch", "clusterqueue", FINE_TUNING, "--type=merge", "-p", json.dumps(patch))


def waiting(pod: dict[str, Any], python: str) -> None:
    """The pod, but what runs in it does nothing until it is told to stop, and needs next to nothing."""
    [container, *_] = pod["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle"):
        container.pop(probe, None)
    container["command"] = [python, "-c", WAITS]
    container.pop("args", None)
    gpus = container["resources"]["limits"].get(GPU)
    container["resources"] = {
        "requests": {"cpu": "10m", "memory": "64Mi"},
        "limits": {"memory": "64Mi", **({GPU: gpus} if gpus else {})},
    }
    pod["containers"] = [container]
    shared = [volume for volume in pod["volumes"] if volume["name"] == "shared"]
    container["volumeMounts"] = [mount for mount in container["volumeMounts"] if mount["name"] == "shared"]
    pod["volumes"] = shared


@pytest.fixture(scope="module")
def claimed(deployed, site, kubectl: Run) -> Iterator[Gpus]:
    """Nodes that claim four GPUs each. Source: Kubernetes, "Advertise Extended Resources for a Node"."""
    nodes = [node.xname for node in site.nodes]
    before = kubectl("get", "clusterqueue", FINE_TUNING, "-o", "jsonpath={.spec.resourceGroups}").stdout
    for node in nodes:
        _patch_status(kubectl, node, {"op": "add", "path": PATCHED, "value": "4"})
    yield Gpus(kubectl)
    for node in nodes:
        _patch_status(kubectl, node, {"op": "remove", "path": PATCHED})
    patch = {"spec": {"resourceGroups": json.loads(before)}}
    kubectl("patch", "clusterqueue", FINE_TUNING, "--type=merge", "-p", json.dumps(patch))


def _patch_status(kubectl: Run, node: str, change: dict[str, str]) -> None:
    kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps([change]))


@pytest.fixture
def gpus(claimed: Gpus) -> Iterator[Gpus]:
    yield claimed
    claimed.kubectl("delete", *RUNS, "--ignore-not-found", "--wait=true", "--timeout=120s")
    for name in ("gpu-a", "gpu-b"):
        claimed.kubectl(
            "delete", "deployment", name, "--ignore-not-found", "--cascade=foreground", "--timeout=120s"
        )


def test_replicas_spread_over_nodes_and_one_too_many_waits(gpus: Gpus, site) -> None:
    nodes = sorted(node.xname for node in site.nodes)
    gpus.serve("gpu-a", gpus=4, replicas=2)
    assert eventually(lambda: gpus.nodes("gpu-a") == nodes, 120), gpus.unplaced("gpu-a")
    gpus.serve("gpu-b", gpus=1, replicas=1)
    assert eventually(lambda: "Insufficient nvidia.com/gpu" in gpus.unplaced("gpu-b"), 60)
    gpus.kubectl("scale", "deployment", "gpu-a", "--replicas=1")
    assert eventually(lambda: len(gpus.nodes("gpu-b")) == 1, 120)
    assert not set(gpus.nodes("gpu-b")) & set(gpus.nodes("gpu-a")), "no GPU has two pods"


def test_a_run_waits_for_quota_and_an_urgent_one_makes_it_wait(gpus: Gpus) -> None:
    gpus.quota(4)
    gpus.train("first", gpus=4)
    assert eventually(lambda: gpus.running() == ["first"], 120)
    gpus.train("second", gpus=1)
    assert eventually(lambda: "insufficient unused quota for nvidia.com/gpu" in gpus.waits("second"), 60)
    gpus.train("urgent", gpus=3, priority="urgent")
    assert eventually(lambda: gpus.running() == ["second", "urgent"], 120), gpus.running()
    assert "insufficient unused quota for nvidia.com/gpu" in gpus.waits("first")
    gpus.kubectl("delete", "job", "-n", "fine-tuning", "urgent", "second")
    assert eventually(lambda: gpus.running() == ["first"], 120), "its turn comes again"


def test_more_than_the_quota_is_never_let_go(gpus: Gpus) -> None:
    gpus.quota(4)
    gpus.train("large", gpus=5)
    assert eventually(lambda: "insufficient quota for nvidia.com/gpu" in gpus.waits("large"), 60), gpus.waits(
        "large"
    )
    assert gpus.running() == []


def test_a_model_takes_the_gpus_of_runs(gpus: Gpus) -> None:
    gpus.quota(8)
    for name in ("first", "second"):
        gpus.train(name, gpus=4)
    assert eventually(lambda: gpus.running() == ["first", "second"], 120)
    gpus.serve("gpu-a", gpus=4, replicas=1)
    assert eventually(lambda: len(gpus.nodes("gpu-a")) == 1, 120), gpus.unplaced("gpu-a")
    assert len(gpus.running()) == 1, "no more than needed made way"
    [stopped] = {"first", "second"} - set(gpus.running())
    status = gpus.one("job", "-n", "fine-tuning", stopped)["status"]
    assert not status.get("failed"), "that it made way counts as no failure"
