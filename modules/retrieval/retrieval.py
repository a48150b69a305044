"""Embeddings and retrieval behind the gateway: replicas that look passages up and have a model answer with them.

They hold no key and no state: which version of a collection is served says a link on the shared file system, which they
follow while they run. Only the gateway reaches them, so its keys, teams and limits hold for them too.
"""

import json
from pathlib import Path
from typing import Any

import pulumi

from modules.gateway.llm_gateway_spec import Target
from modules.inference.serving import (
    PRE_STOP_SECONDS,
    disruption_budget,
    ending,
    followed,
    locked_down,
    needs,
    pods_of,
    service,
    settings,
    spread_over_nodes,
    to_names,
    toleration,
    unprivileged,
)
from modules.inference.vllm_pod import PRIORITY_CLASS
from modules.published import make
from modules.retrieval.retrieval_spec import RetrievalModel, RetrievalSpec
from modules.spec import REVISIONS_KEPT
from sitewright.retrieval.versions import DIRECTORY
from sitewright.site.names import POOL_LABEL

PORT = 8000
SLACK_SECONDS = 30
START_SECONDS = 120  # 3 on two idle cores
COMPONENT = "retrieval"
SETTINGS = "/etc/retrieval"
HERE = Path(__file__).parent
PROGRAM = "modules.retrieval.retrieval_server"
# What the program imports of this directory, under the names it has here.
FILES = tuple(
    f"retrieval_{name}.py"
    for name in (
        "collections",
        "embeddings",
        "embeddings_api",
        "index",
        "passage",
        "prompt",
        "server",
        "upstream",
    )
)


def render(spec: RetrievalSpec) -> list[dict[str, Any]]:
    """The manifests of the retrieval service, in the order they are applied."""
    budget = [disruption_budget(spec.name, spec.namespace, _labels(spec))] if spec.replicas > 1 else []
    front = service(spec.name, spec.namespace, _labels(spec), PORT, None)
    return [_network_policy(spec), _settings(spec), front, *budget, _deployment(spec)]


class Retrieval(pulumi.ComponentResource):
    """A retrieval service that answers once `ready` is there.

    published: image and python, known only once they are published; they replace those of `spec`.
    """

    def __init__(
        self,
        spec: RetrievalSpec,
        published: pulumi.Input[dict[str, str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("sitewright:modules:Retrieval", spec.name, None, opts)
        self.ready = make(self, spec, published, render)
        self.url = f"http://{spec.name}.{spec.namespace}.svc:{PORT}/v1"
        self.register_outputs({"url": self.url})


def _data(spec: RetrievalSpec) -> dict[str, str]:
    settings = {"embeddings": spec.embeddings, "models": [_asked(model) for model in spec.models]}
    programs = {name: (HERE / name).read_text(encoding="utf-8") for name in FILES}
    return {"settings.json": json.dumps(settings, indent=2), **programs}


def _asked(model: RetrievalModel) -> dict[str, Any]:
    return model.model_dump(mode="json")


def _settings(spec: RetrievalSpec) -> dict[str, Any]:
    return settings(_metadata(spec), _data(spec))


def _deployment(spec: RetrievalSpec) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(spec, {"pulumi.com/timeoutSeconds": str(spec.replicas * _turn(spec))}),
        "spec": {
            "replicas": spec.replicas,
            "revisionHistoryLimit": REVISIONS_KEPT,
            "selector": {"matchLabels": _labels(spec)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "minReadySeconds": 5,
            "progressDeadlineSeconds": _turn(spec) - SLACK_SECONDS,
            "template": {
                "metadata": {"labels": _labels(spec)},
                "spec": _pod(spec),
            },
        },
    }


def _turn(spec: RetrievalSpec) -> int:
    """Seconds in which a replica is replaced: the next one starts, then the old one drains."""
    return START_SECONDS + _grace(spec) + 2 * SLACK_SECONDS


def _grace(spec: RetrievalSpec) -> int:
    """Seconds from the wish to end a pod to its kill."""
    return PRE_STOP_SECONDS + spec.drain_timeout + SLACK_SECONDS


def _pod(spec: RetrievalSpec) -> dict[str, Any]:
    items = [{"key": name, "path": f"modules/retrieval/{name}"} for name in FILES]
    return {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        **ending(_grace(spec)),
        "priorityClassName": PRIORITY_CLASS,
        "nodeSelector": {POOL_LABEL: spec.pool},
        **({"tolerations": [toleration(taint) for taint in spec.taints]} if spec.taints else {}),
        "topologySpreadConstraints": [spread_over_nodes(_labels(spec))],
        "securityContext": unprivileged(),
        "containers": [_container(spec)],
        "volumes": [
            {"name": "shared", "hostPath": {"path": spec.shared_path, "type": "Directory"}},
            {
                "name": "settings",
                "configMap": {
                    "name": _settings(spec)["metadata"]["name"],
                    "items": [{"key": "settings.json", "path": "settings.json"}, *items],
                },
            },
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        ],
    }


def _container(spec: RetrievalSpec) -> dict[str, Any]:
    return {
        "name": "retrieval",
        "image": spec.image,
        "command": [spec.python, "-m", PROGRAM],
        "env": [{"name": name, "value": value} for name, value in _environment(spec).items()],
        "ports": [{"name": "http", "containerPort": PORT}],
        **followed(PORT, "/health/live", "/health/ready", START_SECONDS),
        "securityContext": locked_down(),
        "resources": needs("100m", spec.memory),
        "volumeMounts": [
            {"name": "shared", "mountPath": spec.shared_path, "readOnly": True},
            {"name": "settings", "mountPath": SETTINGS, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _environment(spec: RetrievalSpec) -> dict[str, str]:
    return {
        "HOME": "/tmp",
        "PYTHONPATH": SETTINGS,
        "PYTHONDONTWRITEBYTECODE": "1",
        "RETRIEVAL_SETTINGS": f"{SETTINGS}/settings.json",
        "RETRIEVAL_ROOT": f"{spec.shared_path}/{DIRECTORY}",
        "RETRIEVAL_PORT": str(PORT),
        "RETRIEVAL_DRAIN": str(spec.drain_timeout),
        # Threads would only take turns on what the pod is given.
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _network_policy(spec: RetrievalSpec) -> dict[str, Any]:
    """The gateway gets in, which has asked for a key; out go names and questions to the models."""
    targets = list(dict.fromkeys(model.target for model in spec.models))
    gateway = {"app.kubernetes.io/name": spec.gateway, "app.kubernetes.io/component": "llm-gateway"}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(spec),
        "spec": {
            "podSelector": {"matchLabels": _labels(spec)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": [pods_of(spec.namespace, gateway)], "ports": [{"protocol": "TCP", "port": PORT}]}
            ],
            "egress": [to_names(), *map(_to_model, targets)],
        },
    }


def _to_model(target: Target) -> dict[str, Any]:
    return {"to": [target.peer], "ports": [{"protocol": "TCP", "port": target.port}]}


def _metadata(spec: RetrievalSpec, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    made = {"name": spec.name, "namespace": spec.namespace, "labels": _labels(spec)}
    return {**made, **({"annotations": annotations} if annotations else {})}


def _labels(spec: RetrievalSpec) -> dict[str, str]:
    return {"app.kubernetes.io/name": spec.name, "app.kubernetes.io/component": COMPONENT}
