"""The store in which all replicas of a gateway count what teams use now: one Redis, reached by the gateway alone.

Its file lies in the memory of its pod, since nodes have no disk and the cluster no storage: counts outlast a Redis
that ends, and go with the pod. What is in it is in llm_gateway_counts.py. The gateway serves on without it.
"""

import base64
from typing import Annotated, Any, Self

import pulumi
from pydantic import Field, model_validator

from modules.inference.serving import locked_down, needs, service, toleration, unprivileged
from modules.inference.vllm_pod import PRIORITY_CLASS
from modules.published import make
from modules.spec import DNS_LABEL, MEBI, REVISIONS_KEPT, TAINT, Model, quantity
from sitewright.site.names import POOL_LABEL

PORT = 6379
PASSWORD, CONFIG = "password", "redis.conf"  # entries of the Secret
SECRET, DATA = "/run/store", "/data"


class LlmGatewayStoreSpec(Model):
    name: str = Field("llm-gateway-store", pattern=DNS_LABEL, description="<gateway>-store")
    namespace: str = Field("default", pattern=DNS_LABEL, description="of the gateway")
    image: str = Field(description="container image by digest")
    pool: str = Field(pattern=DNS_LABEL, description="pool whose nodes may run it")
    taints: tuple[Annotated[str, Field(pattern=TAINT)], ...] = Field((), description="of the pool's nodes")
    memory: int = Field(128 * MEBI, ge=64 * MEBI, description="bytes, limit; a quarter is for counts")
    clients: dict[str, str] = Field(min_length=1, description="labels of the gateway's pods")

    @model_validator(mode="after")
    def _not_itself(self) -> Self:
        if labels(self.name).items() <= self.clients.items():
            raise ValueError(f"clients: these are the labels of {self.name} itself")
        return self


def render(spec: LlmGatewayStoreSpec) -> list[dict[str, Any]]:
    """The manifests of the store, in the order they are applied. The Secret comes without its entries."""
    front = service(spec.name, spec.namespace, labels(spec.name), PORT, None)
    front["spec"]["ports"][0]["name"] = "redis"
    return [_network_policy(spec), _secret(spec), front, _deployment(spec)]


class LlmGatewayStore(pulumi.ComponentResource):
    """A store that counts once `ready` is there.

    image:    known only once it is published.
    password: letters and digits.
    """

    def __init__(
        self,
        spec: LlmGatewayStoreSpec,
        image: pulumi.Input[str],
        password: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("sitewright:modules:LlmGatewayStore", spec.name, None, opts)
        data = pulumi.Output.secret(password).apply(entries)

        def with_password(given: LlmGatewayStoreSpec) -> list[dict[str, Any]]:
            return [{**one, "data": data} if one["kind"] == "Secret" else one for one in render(given)]

        found = pulumi.Output.from_input(image).apply(lambda found: {"image": found})
        self.ready = make(self, spec, found, with_password)
        self.register_outputs({})


def entries(password: str) -> dict[str, str]:
    """The Secret's data: the password as the gateway reads it, and as Redis does, which is not told it in arguments."""
    made = {PASSWORD: password, CONFIG: f"requirepass {password}\n"}
    return {name: base64.b64encode(text.encode()).decode() for name, text in made.items()}


def labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/component": "llm-gateway-store"}


def arguments(memory: int) -> list[str]:
    """Of redis-server, after its file. memory: bytes, of the container; the file of changes lies there too.

    Source: redis.conf of Redis 7.0.
    """
    return [
        *("--port", str(PORT)),
        *("--dir", DATA),
        # Each second, two where the file is slow: so much is lost when Redis is killed.
        *("--appendonly", "yes", "--appendfsync", "everysec"),
        # 64 MiB by itself: more than there is.
        *("--auto-aof-rewrite-min-size", str(memory // 32)),
        *("--save", ""),
        # Nothing is forgotten to make room: a count that is gone is a limit that is gone.
        *("--maxmemory", str(memory // 4), "--maxmemory-policy", "noeviction"),
    ]


def _secret(spec: LlmGatewayStoreSpec) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": _metadata(spec), "type": "Opaque"}


def _deployment(spec: LlmGatewayStoreSpec) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(spec),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": REVISIONS_KEPT,
            "selector": {"matchLabels": labels(spec.name)},
            # Never two: each would count by itself.
            "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": labels(spec.name)}, "spec": _pod(spec)},
        },
    }


def _pod(spec: LlmGatewayStoreSpec) -> dict[str, Any]:
    return {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "priorityClassName": PRIORITY_CLASS,
        "nodeSelector": {POOL_LABEL: spec.pool},
        **({"tolerations": [toleration(taint) for taint in spec.taints]} if spec.taints else {}),
        "securityContext": unprivileged(own_volumes=True),
        "containers": [_container(spec)],
        "volumes": [
            {"name": "secret", "secret": {"secretName": spec.name, "defaultMode": 0o440}},
            {"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": quantity(spec.memory // 2)}},
        ],
    }


def _container(spec: LlmGatewayStoreSpec) -> dict[str, Any]:
    # With REDISCLI_AUTH; it exits with 0 for the answer LOADING too, unless it is told -e.
    answers = {"exec": {"command": ["redis-cli", "-e", "ping"]}, "timeoutSeconds": 5}
    return {
        "name": "redis",
        "image": spec.image,
        "args": [f"{SECRET}/{CONFIG}", *arguments(spec.memory)],
        "env": [
            {
                "name": "REDISCLI_AUTH",
                "valueFrom": {"secretKeyRef": {"name": spec.name, "key": PASSWORD}},
            }
        ],
        "ports": [{"name": "redis", "containerPort": PORT}],
        "startupProbe": {**answers, "periodSeconds": 2, "failureThreshold": 30},
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 5},
        "livenessProbe": {**answers, "periodSeconds": 15, "failureThreshold": 4},
        "securityContext": locked_down(),
        "resources": needs("50m", spec.memory),
        "volumeMounts": [
            {"name": "secret", "mountPath": SECRET, "readOnly": True},
            {"name": "data", "mountPath": DATA},
        ],
    }


def _network_policy(spec: LlmGatewayStoreSpec) -> dict[str, Any]:
    """The gateway's pods reach it; it reaches nothing."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(spec),
        "spec": {
            "podSelector": {"matchLabels": labels(spec.name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [{"podSelector": {"matchLabels": spec.clients}}],
                    "ports": [{"protocol": "TCP", "port": PORT}],
                }
            ],
            "egress": [],
        },
    }


def _metadata(spec: LlmGatewayStoreSpec) -> dict[str, Any]:
    return {"name": spec.name, "namespace": spec.namespace, "labels": labels(spec.name)}
