"""vllm-router in front of the replicas of one model: it keeps a session on one replica, whose cache then has its past.

It learns the replicas from the Kubernetes API: version 0.1.17 drops one that is not ready, or is about to end, within a
second, which earlier ones did not (vllm-project/router issue 279). It has no keys, passes every path on, and takes
orders from everybody who reaches it; so only the gateway does. tests/contracts/test_vllm_router_process.py shows each.
"""

from ipaddress import IPv4Address
from typing import Annotated, Any, Literal

import pulumi
from pydantic import AfterValidator, Field

from modules.inference.serving import (
    PRE_STOP_SECONDS,
    disruption_budget,
    ending,
    followed,
    locked_down,
    needs,
    open_to_watcher,
    reads_pods,
    service,
    to_api_servers,
    toleration,
    unprivileged,
)
from modules.inference.vllm_pod import PORT as MODEL_PORT
from modules.inference.vllm_pod import PRIORITY_CLASS
from modules.published import make
from modules.spec import DNS_LABEL, MEBI, REVISIONS_KEPT, TAINT, Model
from sitewright.site.names import POOL_LABEL, model_name

PORT, METRICS_PORT = 8080, 29000
COMPONENT = "vllm-router"  # its label
SLACK_SECONDS = 30
START_SECONDS = 120  # 3 on an idle core
Policy = Literal["consistent_hash", "power_of_two", "round_robin", "cache_aware"]


class VllmRouterSpec(Model):
    model: Annotated[str, AfterValidator(model_name)] = Field(description="name of the VllmService behind it")
    namespace: str = Field(
        "default", pattern=DNS_LABEL, description="of the model's replicas, and of the router"
    )
    image: str = Field(description="container image by digest")
    python: str = Field(description="interpreter of the software environment, as a node sees it")
    shared_path: str = Field("/shared", description="shared file system, mounted read-only")
    pool: str = Field(pattern=DNS_LABEL, description="pool whose nodes may run it")
    taints: tuple[Annotated[str, Field(pattern=TAINT)], ...] = Field((), description="of the pool's nodes")
    replicas: int = Field(2, ge=1)
    memory: int = Field(256 * MEBI, ge=128 * MEBI, description="bytes, limit per replica")
    policy: Policy = Field(
        "consistent_hash",
        description="by X-Session-ID or the body; `cache_aware` keeps what it knows to itself, so it wants one replica",
    )
    clients: str = Field("llm-gateway", description="app.kubernetes.io/name of the pods that may ask")
    api_servers: tuple[IPv4Address, ...] = Field(
        (), description="of the cluster, which say what replicas there are"
    )
    api_port: int = Field(6443, ge=1, le=65535)
    total_seconds: int = Field(3600, ge=1, description="an answer may take")

    @property
    def name(self) -> str:
        return router_name(self.model)


def router_name(model: str) -> str:
    """Of the Service in front of that model's replicas."""
    return f"{model}-router"


def render(spec: VllmRouterSpec) -> list[dict[str, Any]]:
    """The manifests of one router, in the order they are applied."""
    budget = [disruption_budget(spec.name, spec.namespace, _labels(spec))] if spec.replicas > 1 else []
    front = service(spec.name, spec.namespace, _labels(spec), PORT, None)
    return [
        _network_policy(spec),
        *reads_pods(spec.name, spec.namespace, _labels(spec)),
        front,
        *budget,
        _deployment(spec),
    ]


class VllmRouter(pulumi.ComponentResource):
    """A router that answers once `ready` is there. published: image and python, known only once they are published."""

    def __init__(
        self,
        spec: VllmRouterSpec,
        published: pulumi.Input[dict[str, str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("sitewright:modules:VllmRouter", spec.name, None, opts)
        self.ready = make(self, spec, published, render)
        self.url = f"http://{spec.name}.{spec.namespace}.svc:{PORT}/v1"
        self.register_outputs({"url": self.url})


def arguments(spec: VllmRouterSpec) -> list[str]:
    """Of the program, without where it listens."""
    return [
        *("--service-discovery", "--selector", f"app.kubernetes.io/name={spec.model}"),
        *("--service-discovery-namespace", spec.namespace, "--service-discovery-port", str(MODEL_PORT)),
        *("--policy", spec.policy),
        # Its own 60 s and 3 would leave a replica whose node lost power in for three minutes.
        *("--health-check-interval-secs", "5", "--health-failure-threshold", "2"),
        *("--health-check-timeout-secs", "3"),
        *("--cb-failure-threshold", "3", "--cb-timeout-duration-secs", "10"),
        *("--retry-max-retries", "3"),
        *("--request-timeout-secs", str(spec.total_seconds)),
        # At `info` it writes several lines for every request.
        *("--log-level", "warning"),
    ]


def _deployment(spec: VllmRouterSpec) -> dict[str, Any]:
    turn = START_SECONDS + _grace(spec) + SLACK_SECONDS
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            **_metadata(spec),
            "annotations": {"pulumi.com/timeoutSeconds": str(spec.replicas * turn)},
        },
        "spec": {
            "replicas": spec.replicas,
            "revisionHistoryLimit": REVISIONS_KEPT,
            "selector": {"matchLabels": _labels(spec)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "minReadySeconds": 5,
            "progressDeadlineSeconds": turn,
            "template": {"metadata": {"labels": _labels(spec)}, "spec": _pod(spec)},
        },
    }


def _grace(spec: VllmRouterSpec) -> int:
    """Seconds from the wish to end a pod to its kill: it ends when its streams have ended."""
    return PRE_STOP_SECONDS + min(spec.total_seconds, 600) + SLACK_SECONDS


def _pod(spec: VllmRouterSpec) -> dict[str, Any]:
    return {
        "enableServiceLinks": False,
        "serviceAccountName": spec.name,
        **ending(_grace(spec)),
        "priorityClassName": PRIORITY_CLASS,
        "nodeSelector": {POOL_LABEL: spec.pool, "kubernetes.io/arch": "amd64"},
        **({"tolerations": [toleration(taint) for taint in spec.taints]} if spec.taints else {}),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "nodeTaintsPolicy": "Honor",
                "matchLabelKeys": ["pod-template-hash"],
                "labelSelector": {"matchLabels": _labels(spec)},
            }
        ],
        "securityContext": unprivileged(),
        "containers": [_container(spec)],
        "volumes": [
            {"name": "shared", "hostPath": {"path": spec.shared_path, "type": "Directory"}},
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        ],
    }


def _container(spec: VllmRouterSpec) -> dict[str, Any]:
    metrics = ["--prometheus-host", "0.0.0.0", "--prometheus-port", str(METRICS_PORT)]
    listen = ["--host", "0.0.0.0", "--port", str(PORT), *metrics]
    return {
        "name": "router",
        "image": spec.image,
        "command": [spec.python, "-m", "vllm_router.launch_router"],
        "args": [*listen, *arguments(spec)],
        "env": [{"name": "HOME", "value": "/tmp"}, {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
        "ports": [
            {"name": "http", "containerPort": PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        # Not ready without a replica: the gateway then says 503 instead of waiting.
        **followed(PORT, "/liveness", "/readiness", START_SECONDS),
        "securityContext": locked_down(),
        "resources": needs("100m", spec.memory),
        "volumeMounts": [
            {"name": "shared", "mountPath": spec.shared_path, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _network_policy(spec: VllmRouterSpec) -> dict[str, Any]:
    """Asked by the gateway alone, it reaches the replicas and the API server alone."""
    clients = {"matchLabels": {"app.kubernetes.io/name": spec.clients}}
    replicas = {"matchLabels": {"app.kubernetes.io/name": spec.model}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(spec),
        "spec": {
            "podSelector": {"matchLabels": _labels(spec)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": [{"podSelector": clients}], "ports": [{"protocol": "TCP", "port": PORT}]},
                open_to_watcher(METRICS_PORT),
            ],
            "egress": [
                {"to": [{"podSelector": replicas}], "ports": [{"protocol": "TCP", "port": MODEL_PORT}]},
                *to_api_servers(spec.api_servers, spec.api_port),
            ],
        },
    }


def _metadata(spec: VllmRouterSpec) -> dict[str, Any]:
    return {"name": spec.name, "namespace": spec.namespace, "labels": _labels(spec)}


def _labels(spec: VllmRouterSpec) -> dict[str, str]:
    return {"app.kubernetes.io/name": spec.name, "app.kubernetes.io/component": COMPONENT}
