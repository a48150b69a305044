"""A model too large for one node: each replica is a group of pods, one per node, that compute together.

LeaderWorkerSet keeps a group together, without Ray. Only the first pod of a group speaks HTTP. A worker that died was
not noticed for four hours elsewhere (LLMKube issue 1781): here each worker's probe asks the leader's rendezvous, and
one pod that restarts takes its group along. Rendered, linted, and checked against the schema of LeaderWorkerSet; no
GPU has run it here.
Source: vllm 0.32, engine/arg_utils.py (`--nnodes`, `--node-rank`, `--headless`); LeaderWorkerSet v1.
"""

from typing import Any, Self

import pulumi
from pydantic import Field, model_validator

from modules.fabric.high_speed_net import Fabric, wire
from modules.inference.serving import service
from modules.inference.vllm_pod import (
    PORT,
    SLACK_SECONDS,
    VllmServiceSpec,
    labels,
    network_policy,
    pod,
    programs,
    turn,
)
from modules.published import make

RENDEZVOUS_PORT = 29501
DIAL = (
    "import os, socket; "
    f"socket.create_connection((os.environ['LWS_LEADER_ADDRESS'], {RENDEZVOUS_PORT}), 5).close()"
)
INDEX_LABEL = "leaderworkerset.sigs.k8s.io/worker-index"


class VllmGroupServiceSpec(VllmServiceSpec):
    nodes: int = Field(ge=2, description="per replica; gpus is per node")
    pipeline_parallel: int = Field(
        1,
        ge=1,
        description="stages; across nodes it hung on Slingshot (vllm issue 26318), so 1 unless measured",
    )
    startup_budget: int = Field(3600, ge=60, description="seconds a group may take to load")
    fabric: Fabric | None = Field(None, description="the network between the nodes; None: whatever pods have")

    @model_validator(mode="after")
    def _computes_together(self) -> Self:
        if self.gpus < 1:
            raise ValueError("gpus: a group of nodes computes on GPUs; 0 is for one node")
        if self.nodes * self.gpus % self.pipeline_parallel:
            raise ValueError(
                f"pipeline_parallel: {self.nodes} × {self.gpus} GPUs are no multiple of {self.pipeline_parallel}"
            )
        return self


def render(spec: VllmGroupServiceSpec) -> list[dict[str, Any]]:
    """The manifests of one served model, in the order they are applied."""
    front = service(spec.name, spec.namespace, labels(spec), PORT, spec.node_port)
    # The others of a group have no port to answer at.
    front["spec"]["selector"][INDEX_LABEL] = "0"
    budget = [_budget(spec)] if spec.replicas > 1 else []
    return [_policy(spec), programs(spec), front, *budget, _groups(spec)]


class VllmGroupService(pulumi.ComponentResource):
    """published: image, python, model_path, model_digest, known only once they are published."""

    def __init__(
        self,
        spec: VllmGroupServiceSpec,
        published: pulumi.Input[dict[str, str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("sitewright:modules:VllmGroupService", spec.name, None, opts)
        self.ready = make(self, spec, published, render)
        self.url = f"http://{spec.name}.{spec.namespace}.svc:{PORT}/v1"
        self.register_outputs({"url": self.url})


def _groups(spec: VllmGroupServiceSpec) -> dict[str, Any]:
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": labels(spec),
            "annotations": {
                # Pulumi knows no readiness of its own for this kind; the groups take turns.
                "pulumi.com/waitFor": "condition=Available",
                "pulumi.com/timeoutSeconds": str(spec.replicas * turn(spec) + SLACK_SECONDS),
            },
        },
        "spec": {
            "replicas": spec.replicas,
            "startupPolicy": "LeaderCreated",
            # No spare GPUs are needed for an update: one group goes before the next comes.
            "rolloutStrategy": {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": {"maxUnavailable": 1, "maxSurge": 0},
            },
            "leaderWorkerTemplate": {
                "size": spec.nodes,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": _template(spec, leader=True),
                "workerTemplate": _template(spec, leader=False),
            },
        },
    }


def _template(spec: VllmGroupServiceSpec, leader: bool) -> dict[str, Any]:
    made = pod(spec)
    del made["topologySpreadConstraints"]  # a pod takes all GPUs of its node; groups may lie as they come
    [container] = made["containers"]
    container["args"] = [*_alone(container["args"]), *_together(spec, leader)]
    if not leader:
        for probe in ("readinessProbe", "ports", "lifecycle"):
            container.pop(probe)
        container["startupProbe"] = {
            **_dial(spec),
            "periodSeconds": 10,
            "failureThreshold": spec.startup_budget // 10,
        }
        container["livenessProbe"] = {
            **_dial(spec),
            "periodSeconds": 15,
            "timeoutSeconds": 15,
            "failureThreshold": 4,
        }
    metadata = {"labels": labels(spec), "annotations": {"sitewright.dev/model-digest": spec.model_digest}}
    template = {"metadata": metadata, "spec": made}
    return wire(template, spec.fabric) if spec.fabric else template


def _alone(arguments: list[str]) -> list[str]:
    """Without the split over the GPUs of one node."""
    if "--tensor-parallel-size" not in arguments:
        return arguments
    place = arguments.index("--tensor-parallel-size")
    return arguments[:place] + arguments[place + 2 :]


def _together(spec: VllmGroupServiceSpec, leader: bool) -> list[str]:
    """Kubernetes fills in what LeaderWorkerSet tells each pod."""
    parallel = spec.nodes * spec.gpus // spec.pipeline_parallel
    return [
        *("--tensor-parallel-size", str(parallel)),
        *(["--pipeline-parallel-size", str(spec.pipeline_parallel)] if spec.pipeline_parallel > 1 else []),
        *("--nnodes", str(spec.nodes), "--node-rank", "$(LWS_WORKER_INDEX)"),
        *("--master-addr", "$(LWS_LEADER_ADDRESS)", "--master-port", str(RENDEZVOUS_PORT)),
        *([] if leader else ["--headless"]),
    ]


def _dial(spec: VllmGroupServiceSpec) -> dict[str, Any]:
    return {"exec": {"command": [spec.python, "-I", "-S", "-c", DIAL]}}


def _budget(spec: VllmGroupServiceSpec) -> dict[str, Any]:
    """One pod may be asked to go while all are well; its group goes with it, and until it is back no other may."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": spec.name, "namespace": spec.namespace, "labels": labels(spec)},
        "spec": {
            # Of pods with owners that Kubernetes does not know, only a number is understood.
            "minAvailable": spec.nodes * spec.replicas - 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": labels(spec)},
        },
    }


def _policy(spec: VllmGroupServiceSpec) -> dict[str, Any]:
    """As for one pod, and the pods of the model among themselves at any port: NCCL chooses its own."""
    made = network_policy(spec)
    made["spec"]["ingress"].append({"from": [{"podSelector": {"matchLabels": labels(spec)}}]})
    return made
