"""A Job that says whether nodes of a pool reach each other as fast as they should, before a model is put on them.

NCCL and its plugins that do not fit each other deadlock or fall back without a word (aws-ofi-nccl issue 1055); here
they do so in a Job of minutes and not in a served model.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from modules.fabric.high_speed_net import Fabric, wire
from modules.inference.serving import toleration
from modules.spec import DNS_LABEL, TAINT, Model
from sitewright.site.names import POOL_LABEL

ENTRY = "fabric_preflight_entry.py"
PROGRAM = Path(__file__).with_name(ENTRY).read_text(encoding="utf-8")
RENDEZVOUS_PORT = 29500


class FabricPreflightSpec(Model):
    name: str = Field("fabric-preflight", pattern=DNS_LABEL)
    namespace: str = Field("default", pattern=DNS_LABEL)
    image: str = Field(description="container image by digest")
    python: str = Field(description="interpreter of an environment with torch, as a node sees it")
    shared_path: str = Field("/shared", description="shared file system, mounted read-only")
    pool: str = Field(pattern=DNS_LABEL)
    taints: tuple[Annotated[str, Field(pattern=TAINT)], ...] = Field((), description="of the pool's nodes")
    nodes: int = Field(2, ge=2)
    gpus: int = Field(4, ge=1, description="per node")
    fabric: Fabric = Field(default_factory=lambda: Fabric.model_validate({}))
    expected: float = Field(
        122.6, gt=0, description="GB/s of bus bandwidth, as nccl-tests counts; of 8 GH200 at CSCS"
    )
    share: float = Field(0.95, gt=0, le=1, description="of it that is enough")
    seconds: int = Field(600, ge=60, description="after which it has failed: a deadlock prints nothing")


def render(spec: FabricPreflightSpec) -> list[dict[str, Any]]:
    """A ConfigMap with the program, the name by which the pods find the first of them, and the Job."""
    metadata = {"name": spec.name, "namespace": spec.namespace, "labels": _labels(spec)}
    names = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": _labels(spec)}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": dict(metadata), "data": {ENTRY: PROGRAM}},
        {"apiVersion": "v1", "kind": "Service", "metadata": dict(metadata), "spec": names},
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": dict(metadata),
            "spec": {
                "completionMode": "Indexed",
                "completions": spec.nodes,
                "parallelism": spec.nodes,
                "backoffLimit": 0,
                "activeDeadlineSeconds": spec.seconds,
                "template": wire(_template(spec), spec.fabric),
            },
        },
    ]


def _template(spec: FabricPreflightSpec) -> dict[str, Any]:
    cards = {"nvidia.com/gpu": str(spec.gpus)}
    return {
        "metadata": {"labels": _labels(spec)},
        "spec": {
            "restartPolicy": "Never",
            "enableServiceLinks": False,
            "automountServiceAccountToken": False,
            "subdomain": spec.name,
            "nodeSelector": {POOL_LABEL: spec.pool},
            **({"tolerations": [toleration(taint) for taint in spec.taints]} if spec.taints else {}),
            "containers": [
                {
                    "name": "preflight",
                    "image": spec.image,
                    "command": [spec.python, "-m", "torch.distributed.run"],
                    "args": _arguments(spec),
                    "env": [{"name": "HOME", "value": "/tmp"}],
                    "resources": {
                        "requests": {**cards, "cpu": "4", "memory": "16Gi"},
                        "limits": {**cards, "memory": "16Gi"},
                    },
                    "volumeMounts": [
                        {"name": "shared", "mountPath": spec.shared_path, "readOnly": True},
                        {"name": "entry", "mountPath": "/entry", "readOnly": True},
                        {"name": "shm", "mountPath": "/dev/shm"},
                        {"name": "tmp", "mountPath": "/tmp"},
                    ],
                }
            ],
            "volumes": [
                {"name": "shared", "hostPath": {"path": spec.shared_path, "type": "Directory"}},
                {"name": "entry", "configMap": {"name": spec.name}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}},
                {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
            ],
        },
    }


def _arguments(spec: FabricPreflightSpec) -> list[str]:
    return [
        *("--nnodes", str(spec.nodes), "--nproc-per-node", str(spec.gpus)),
        *("--node-rank", "$(JOB_COMPLETION_INDEX)"),
        *("--master-addr", f"{spec.name}-0.{spec.name}", "--master-port", str(RENDEZVOUS_PORT)),
        f"/entry/{ENTRY}",
        *("--expected", f"{spec.expected:g}", "--share", f"{spec.share:g}"),
    ]


def _labels(spec: FabricPreflightSpec) -> dict[str, str]:
    return {"app.kubernetes.io/name": spec.name, "app.kubernetes.io/component": "fabric-preflight"}
