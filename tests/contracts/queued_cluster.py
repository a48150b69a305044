"""A cluster with queues for tests: a real API server, the real controllers and scheduler, and the real Kueue.

Kueue runs as the pod of its Deployment would: with the rendered configuration, and with the rights of its service
account. No kubelet is there: the one node has what it says it has, and what pods do, the test says.
"""

import base64
import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import kubernetes
import yaml

from modules.queues.batch_queues import queues
from modules.queues.batch_queues_controller import (
    CERTIFICATE,
    CONFIGURATION,
    FILE,
    NAME,
    NAMESPACE,
    controller,
)
from modules.queues.batch_queues_spec import BatchQueuesSpec
from sitewright.site.names import POOL_LABEL
from tests.contracts.fake_hypervisor import free_ports, process, until
from tests.contracts.scheduled_cluster import add_node, apply, scheduled_cluster
from tools.locate import tool

NODE, LOG = "x1000c0s0b0n0", "kueue.log"


@dataclass(frozen=True)
class QueuedCluster:
    kubeconfig: Path
    kueue: subprocess.Popen[bytes]
    log: Path
    """of Kueue"""

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Kueue takes connections, and answers nothing."""
        self.kueue.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.kueue.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def queued_cluster(directory: Path, spec: BatchQueuesSpec, gpus: int) -> Iterator[QueuedCluster]:
    """gpus: of the node, which is in the pool of the first flavor."""
    names = "job-controller,garbage-collector-controller"
    with cluster(directory, spec.flavors[0].pool, gpus, names) as kubeconfig:
        [port] = free_ports(1)
        namespace, *rest = controller(spec)
        runs = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": spec.namespace}}
        apply(kubeconfig, namespace, runs)
        apply(kubeconfig, *(reached_at(manifest, port) for manifest in rest))
        with kueue(directory, kubeconfig, port) as running:
            apply(kubeconfig, *queues(spec))
            yield QueuedCluster(kubeconfig, running, directory / LOG)


@contextlib.contextmanager
def cluster(directory: Path, pool: str, gpus: int, names: str) -> Iterator[Path]:
    """API server, scheduler, the controllers of these names, and one node. Gives the kubeconfig."""
    with scheduled_cluster(directory, names) as kubeconfig:
        add_node(NODE, {POOL_LABEL: pool}, gpus)
        yield kubeconfig


@contextlib.contextmanager
def kueue(directory: Path, kubeconfig: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Kueue, ready. port: of its webhooks, where `reached_at` has them called."""
    health, metrics = free_ports(2)
    settings = _settings(directory, port, health, metrics)
    identity = _as_its_service_account(directory, kubeconfig)
    command = [str(tool("kueue")), f"--config={settings}", f"--kubeconfig={identity}", "--zap-log-level=2"]
    with process(command, directory / LOG) as running:
        _mount_certificate(directory)
        until(lambda: _ready(health), f"Kueue is ready, see {directory / LOG}", 60)
        yield running


def reached_at(manifest: dict[str, Any], port: int) -> dict[str, Any]:
    """With Kueue where it is here: no pod network leads from the API server to it."""
    if manifest["kind"] == "Service":
        return {**manifest, "spec": {"type": "ExternalName", "externalName": "localhost"}}
    for webhook in manifest.get("webhooks", ()):
        webhook["clientConfig"]["service"]["port"] = port
    if "conversion" in manifest.get("spec", {}):
        manifest["spec"]["conversion"]["webhook"]["clientConfig"]["service"]["port"] = port
    return manifest


def _settings(directory: Path, webhook: int, health: int, metrics: int) -> Path:
    """The ConfigMap as it is mounted, with free ports of this machine."""
    maps = kubernetes.client.CoreV1Api().list_namespaced_config_map(NAMESPACE).items
    [data] = [one.data for one in maps if one.metadata.name.startswith(CONFIGURATION)]
    settings = json.loads(data[FILE])
    settings["webhook"] = {"host": "127.0.0.1", "port": webhook, "certDir": str(directory / "certificates")}
    settings["health"]["healthProbeBindAddress"] = f"127.0.0.1:{health}"
    settings["metrics"]["bindAddress"] = f"127.0.0.1:{metrics}"
    file = directory / FILE
    file.write_text(json.dumps(settings))
    return file


def _as_its_service_account(directory: Path, kubeconfig: Path) -> Path:
    asked = {"spec": {"expirationSeconds": 3600, "audiences": ["https://kubernetes.default.svc"]}}
    made = kubernetes.client.CoreV1Api().create_namespaced_service_account_token(NAME, NAMESPACE, asked)
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"][0]["user"] = {"token": made.status.token}
    file = directory / "kueue.kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


def _mount_certificate(directory: Path) -> None:
    """What the kubelet does with the Secret once Kueue has filled it."""
    api = kubernetes.client.CoreV1Api()
    filled = until(
        lambda: _decoded(api.read_namespaced_secret(CERTIFICATE, NAMESPACE)),
        "Kueue makes its certificate",
        60,
    )
    (directory / "certificates").mkdir(exist_ok=True)
    for name, content in filled.items():
        (directory / "certificates" / name).write_bytes(content)


def _decoded(secret: Any) -> dict[str, bytes]:
    return {name: base64.b64decode(value) for name, value in (secret.data or {}).items()}


def _ready(port: int) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    return False
