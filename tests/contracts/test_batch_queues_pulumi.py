"""The queues through the real Pulumi engine, with the real Kueue: made, unchanged by what Kueue does to them, changed,
and taken away."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes
import pytest

from modules.queues.batch_queues_controller import NAMESPACE
from tests.contracts.fake_hypervisor import free_ports
from tests.contracts.queued_cluster import cluster, kueue
from tests.contracts.queuer import active, objects
from tools.environment import pulumi_environment

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

REPOSITORY = Path(__file__).parents[2]
CONTROLLERS = "deployment-controller,replicaset-controller,namespace-controller,garbage-collector-controller"
PROGRAM = """
    import json
    import sys
    from pathlib import Path

    import pulumi

    wanted = json.loads(Path("wanted.json").read_text())
    sys.path.insert(0, wanted["repository"])

    from modules.queues.batch_queues import BatchQueues
    from modules.queues.batch_queues_spec import BatchQueuesSpec
    from modules.manifest import Manifest
    from stacks.handles import kubernetes_provider
    from tests.contracts.queued_cluster import reached_at

    provider = kubernetes_provider("svc", Path(wanted["kubeconfig"]).read_text())
    on = pulumi.ResourceOptions(provider=provider)
    runs = Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fine-tuning"}}, opts=on)

    def here(given):
        if "kind" not in given.props:
            return None
        return pulumi.ResourceTransformResult(reached_at({**given.props}, wanted["port"]), given.opts)

    spec = BatchQueuesSpec.model_validate(wanted["queues"])
    BatchQueues(
        spec,
        pulumi.Output.from_input("kueue@sha256:1"),
        pulumi.ResourceOptions(provider=provider, depends_on=[runs], transforms=[here]),
    )
"""


@dataclass
class Stack:
    """wanted: what its program reads."""

    folder: Path
    environment: dict[str, str]
    wanted: dict[str, Any]

    def pulumi(self, *arguments: str) -> str:
        (self.folder / "wanted.json").write_text(json.dumps(self.wanted))
        done = subprocess.run(
            ["pulumi", "--non-interactive", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self) -> None:
        self.pulumi("up", "--yes", "--skip-preview")

    def preview(self, *arguments: str) -> list[tuple[str, str]]:
        """What an update would do: operation and name of what changes."""
        steps = json.loads(self.pulumi("preview", "--json", *arguments))["steps"]
        changes = [step for step in steps if step["op"] not in ("same", "refresh")]
        return [(step["op"], step["urn"].rpartition("::")[2]) for step in changes]


class Kubelet(threading.Thread):
    """Runs Kueue once its pod is on the node, says that the pod is ready when Kueue is, and ends both."""

    def __init__(self, directory: Path, kubeconfig: Path, port: int) -> None:
        super().__init__()
        self._where = (directory, kubeconfig, port)
        self._api = kubernetes.client.CoreV1Api()
        self._stop_asked = threading.Event()

    def run(self) -> None:
        with contextlib.ExitStack() as running:
            while not self._stop_asked.wait(0.3):
                for pod in self._api.list_namespaced_pod(NAMESPACE).items:
                    if pod.metadata.deletion_timestamp is not None:
                        running.close()
                        self._api.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=0)
                    elif pod.spec.node_name and pod.status.phase == "Pending":
                        running.enter_context(kueue(*self._where))
                        self._ready(pod.metadata.name)

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()

    def _ready(self, pod: str) -> None:
        conditions = [
            {"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady", "Initialized")
        ]
        status = {"phase": "Running", "conditions": conditions}
        self._api.patch_namespaced_pod_status(pod, NAMESPACE, {"status": status})


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("stack")
    (backend := directory / "backend").mkdir()
    environment = pulumi_environment(REPOSITORY, dict(os.environ)) | {
        "PULUMI_BACKEND_URL": f"file://{backend}",
        "PULUMI_CONFIG_PASSPHRASE": "a passphrase of this test",
    }
    with cluster(directory, "gpu", 2, CONTROLLERS) as kubeconfig, contextlib.ExitStack() as undo:
        [port] = free_ports(1)
        kubelet = Kubelet(directory, kubeconfig, port)
        kubelet.start()
        undo.callback(kubelet.stop)
        wanted = {
            "repository": str(REPOSITORY),
            "kubeconfig": str(kubeconfig),
            "port": port,
            "queues": {
                "image": "",
                "pool": "gpu",
                "flavors": [{"pool": "gpu", "fine_tuning": {"cpus": 1, "memory": 2**31}}],
                "teams": ["demo"],
                "priorities": {"urgent": 100},
            },
        }
        made = Stack(directory, environment, wanted)
        (directory / "Pulumi.yaml").write_text("name: queues\nruntime: python\n")
        (directory / "__main__.py").write_text(textwrap.dedent(PROGRAM))
        made.pulumi("stack", "init", "test")
        made.up()
        yield made


def test_an_update_ends_when_the_queues_are_active(stack: Stack) -> None:
    assert all(map(active, [*objects("clusterqueues"), *objects("localqueues", "fine-tuning")]))


def test_what_kueue_writes_into_its_objects_is_no_drift(stack: Stack) -> None:
    """Certificates in the Secret, webhooks and kinds; defaults, finalizers and states in the queues."""
    secret = kubernetes.client.CoreV1Api().read_namespaced_secret("kueue-webhook-server-cert", NAMESPACE)
    assert "ca.crt" in secret.data
    assert stack.preview("--refresh") == []


def test_another_quota_and_another_team_change_two_queues_and_kueue_goes_on(stack: Stack) -> None:
    before = pods()
    stack.wanted["queues"]["flavors"][0]["fine_tuning"]["cpus"] = 2
    stack.wanted["queues"]["teams"] = ["climate"]
    assert sorted(stack.preview()) == [
        ("create", "queues-localqueue-climate"),
        ("delete", "queues-localqueue-demo"),
        ("update", "queues-clusterqueue-fine-tuning"),
    ]
    stack.up()
    [runs] = [found for found in objects("clusterqueues") if found["metadata"]["name"] == "fine-tuning"]
    assert runs["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["nominalQuota"] == "2"
    assert [found["metadata"]["name"] for found in objects("localqueues", "fine-tuning")] == ["climate"]
    assert pods() == before


def test_nothing_stays_behind_when_it_is_destroyed(stack: Stack) -> None:
    stack.pulumi("destroy", "--yes", "--skip-preview")
    kinds = kubernetes.client.ApiextensionsV1Api().list_custom_resource_definition().items
    assert [kind.metadata.name for kind in kinds if "kueue" in kind.metadata.name] == []
    assert NAMESPACE not in [
        found.metadata.name for found in kubernetes.client.CoreV1Api().list_namespace().items
    ]


def pods() -> list[str]:
    return [pod.metadata.uid for pod in kubernetes.client.CoreV1Api().list_namespaced_pod(NAMESPACE).items]
