"""A cluster that schedules: the real API server, controllers and scheduler, over nodes that are objects only.

No kubelet is there: a node has what the test says, and so do the pods on it.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import yaml

from tests.contracts.fake_hypervisor import api_server, controllers, free_ports, process
from tools.locate import tool


@contextlib.contextmanager
def scheduled_cluster(directory: Path, names: str) -> Iterator[Path]:
    """names: of the controllers. Gives the kubeconfig, which the client for Python has loaded."""
    [port] = free_ports(1)
    with api_server(directory) as kubeconfig:
        kubernetes.config.load_kube_config(str(kubeconfig))
        with controllers(directory, kubeconfig, names), _scheduler(directory, kubeconfig, port):
            yield kubeconfig


@contextlib.contextmanager
def _scheduler(directory: Path, kubeconfig: Path, port: int) -> Iterator[None]:
    command = [
        *(str(tool("kube-scheduler")), f"--kubeconfig={kubeconfig}", "--leader-elect=false"),
        *("--bind-address=127.0.0.1", f"--secure-port={port}", f"--cert-dir={directory}/scheduler"),
    ]
    with process(command, directory / "scheduler.log"):
        yield


def add_node(
    name: str, labels: dict[str, str], gpus: int, taints: list[dict[str, str]] | None = None
) -> None:
    """A node that is Ready, with 8 CPUs and 32 GiB for each four GPUs it may have."""
    api = kubernetes.client.CoreV1Api()
    api.create_node({"metadata": {"name": name, "labels": {**labels, "kubernetes.io/hostname": name}}})
    # Of a node that was never Ready the API server says so with a taint; the controller that takes it away is not here.
    api.patch_node(name, {"spec": {"taints": taints}})
    amount = {"cpu": "8", "memory": "32Gi", "pods": "20", "nvidia.com/gpu": str(gpus)}
    ready = [{"type": "Ready", "status": "True", "reason": "Test", "message": ""}]
    status = {"capacity": amount, "allocatable": amount, "conditions": ready}
    api.patch_node_status(name, {"status": status})


def apply(kubeconfig: Path, *manifests: dict[str, Any]) -> None:
    """As `pulumi up` does it: server-side."""
    command = [tool("kubectl"), f"--kubeconfig={kubeconfig}", "apply", "--server-side", "-f", "-"]
    done = subprocess.run(command, input=yaml.safe_dump_all(manifests), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
