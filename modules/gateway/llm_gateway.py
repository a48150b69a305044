"""One address for all models of a cluster: LiteLLM with keys per team, retries, fallbacks and canaries.

Two replicas. What may be asked for is in the file LiteLLM starts with, who may ask is in two Secrets that are read
while it runs, what teams use per minute is counted in llm_gateway_store.py, and what they have used is written to the
site's PostgreSQL. LiteLLM was published with a trojan once (litellm issue 24518): its packages are locked by hash, and
its pods reach names, models and those two.
"""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi

from modules.gateway import llm_gateway_config as litellm
from modules.gateway import llm_gateway_store as store
from modules.gateway.llm_gateway_spec import LlmGatewaySpec
from modules.inference.serving import (
    PRE_STOP_SECONDS,
    disruption_budget,
    ending,
    followed,
    locked_down,
    needs,
    open_to,
    open_to_watcher,
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
from modules.spec import REVISIONS_KEPT
from sitewright.site.names import POOL_LABEL

PORT, METRICS_PORT = 4000, 9400
SLACK_SECONDS = 30
START_SECONDS = 300  # 12 on two idle cores, most of it imports
SETTINGS, KEYS, STORE = "/etc/gateway", "/run/gateway/keys", "/run/gateway/store"
DATABASE = "/run/gateway/database"
PASSWORD, CA = "password", "ca.crt"  # entries of the database's Secret
HERE = Path(__file__).parent
PROGRAMS = {
    name: (HERE / name).read_text(encoding="utf-8")
    for name in (
        "llm_gateway_auth.py",
        "llm_gateway_counts.py",
        "llm_gateway_limits.py",
        "llm_gateway_metrics.py",
        "llm_gateway_outage.py",
        "llm_gateway_server.py",
        "llm_gateway_targets.py",
        "llm_gateway_usage.py",
    )
}


def render(spec: LlmGatewaySpec) -> list[dict[str, Any]]:
    """The manifests of a gateway, in the order they are applied.

    The Secrets come without entries: whoever hands out keys puts them in, and keeps what they put; likewise the one
    with the database's password.
    """
    secrets = [secret(spec, spec.active_secret), secret(spec, spec.blocked_secret)]
    secrets += [secret(spec, spec.database_secret)] if spec.database else []
    budget = [disruption_budget(spec.name, spec.namespace, spec.labels)] if spec.replicas > 1 else []
    front = service(spec.name, spec.namespace, spec.labels, PORT, spec.node_port)
    return [_network_policy(spec), _settings(spec), *secrets, front, *budget, _deployment(spec)]


class LlmGateway(pulumi.ComponentResource):
    """A gateway that answers once `ready` is there.

    published: image and python, known only once they are published; they replace those of `spec`.
    keys:      entries this program puts into the Secret with active keys, beside those that others put there.
    login:     PASSWORD and CA of the database, where `spec` has one.
    """

    def __init__(
        self,
        spec: LlmGatewaySpec,
        published: pulumi.Input[dict[str, str]],
        keys: pulumi.Input[Mapping[str, str]] | None = None,
        login: pulumi.Input[Mapping[str, str]] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("sitewright:modules:LlmGateway", spec.name, None, opts)

        entries = {
            secret: pulumi.Output.secret(given).apply(_encoded)
            for secret, given in ((spec.active_secret, keys), (spec.database_secret, login))
            if given is not None
        }

        def with_entries(given: LlmGatewaySpec) -> list[dict[str, Any]]:
            return [
                {**manifest, "data": entries[manifest["metadata"]["name"]]}
                if manifest["kind"] == "Secret" and manifest["metadata"]["name"] in entries
                else manifest
                for manifest in render(given)
            ]

        secrets = {
            spec.active_secret: "active",
            spec.blocked_secret: "blocked",
            spec.database_secret: "database",
        }

        def name(manifest: Mapping[str, Any]) -> str:
            kind = manifest["kind"].lower()
            if manifest["kind"] == "Secret":
                kind = secrets[manifest["metadata"]["name"]]
            return f"{spec.name}-{kind}"

        self.ready = make(self, spec, published, with_entries, name)
        self.url = f"http://{spec.name}.{spec.namespace}.svc:{PORT}/v1"
        self.register_outputs({"url": self.url})


def _encoded(entries: Mapping[str, str]) -> dict[str, str]:
    return {name: base64.b64encode(text.encode()).decode() for name, text in entries.items()}


def _data(spec: LlmGatewaySpec) -> dict[str, str]:
    return {
        "config.yaml": litellm.config(spec.models, spec.total_seconds, spec.stall_seconds),
        "policy.json": litellm.policy(spec.models, spec.teams, spec.default_models),
        **PROGRAMS,
    }


def _settings(spec: LlmGatewaySpec) -> dict[str, Any]:
    return settings(_metadata(spec), _data(spec))


def secret(spec: LlmGatewaySpec, name: str) -> dict[str, Any]:
    """One without entries, which somebody else puts in."""
    # Without `data`, server-side apply leaves the entries of others alone.
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**_metadata(spec), "name": name},
        "type": "Opaque",
    }


def _deployment(spec: LlmGatewaySpec) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(spec, {"pulumi.com/timeoutSeconds": str(spec.replicas * _turn(spec))}),
        "spec": {
            "replicas": spec.replicas,
            "revisionHistoryLimit": REVISIONS_KEPT,
            "selector": {"matchLabels": spec.labels},
            # Unlike a model it needs no GPU, so the new replica comes before the old one goes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "minReadySeconds": 10,
            "progressDeadlineSeconds": _turn(spec) - SLACK_SECONDS,
            "template": {
                "metadata": {"labels": spec.labels},
                "spec": _pod(spec),
            },
        },
    }


def _turn(spec: LlmGatewaySpec) -> int:
    """Seconds in which a replica is replaced: the next one starts, then the old one drains."""
    return START_SECONDS + _grace(spec) + 2 * SLACK_SECONDS


def _grace(spec: LlmGatewaySpec) -> int:
    """Seconds from the wish to end a pod to its kill."""
    return PRE_STOP_SECONDS + spec.drain_timeout + SLACK_SECONDS


def _pod(spec: LlmGatewaySpec) -> dict[str, Any]:
    return {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        **ending(_grace(spec)),
        "priorityClassName": PRIORITY_CLASS,
        "nodeSelector": {POOL_LABEL: spec.pool},
        **({"tolerations": [toleration(taint) for taint in spec.taints]} if spec.taints else {}),
        "topologySpreadConstraints": [spread_over_nodes(spec.labels)],
        "securityContext": unprivileged(own_volumes=True),
        "containers": [_container(spec)],
        "volumes": [
            {"name": "shared", "hostPath": {"path": spec.shared_path, "type": "Directory"}},
            {"name": "settings", "configMap": {"name": _settings(spec)["metadata"]["name"]}},
            {"name": "active", "secret": {"secretName": spec.active_secret, "defaultMode": 0o440}},
            {"name": "blocked", "secret": {"secretName": spec.blocked_secret, "defaultMode": 0o440}},
            *([{"name": "store", "secret": _password(spec)}] if spec.limited else []),
            *([{"name": "database", "secret": _login(spec)}] if spec.database else []),
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        ],
    }


def _container(spec: LlmGatewaySpec) -> dict[str, Any]:
    return {
        "name": "litellm",
        "image": spec.image,
        "command": [spec.python, f"{SETTINGS}/llm_gateway_server.py"],
        "env": _environment(spec),
        "ports": [
            {"name": "http", "containerPort": PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        **followed(PORT, "/health/liveliness", "/health/readiness", START_SECONDS),
        "securityContext": locked_down(),
        "resources": needs("250m", spec.memory),
        "volumeMounts": [
            {"name": "shared", "mountPath": spec.shared_path, "readOnly": True},
            {"name": "settings", "mountPath": SETTINGS, "readOnly": True},
            {"name": "active", "mountPath": f"{KEYS}/active", "readOnly": True},
            {"name": "blocked", "mountPath": f"{KEYS}/blocked", "readOnly": True},
            *([{"name": "store", "mountPath": STORE, "readOnly": True}] if spec.limited else []),
            *([{"name": "database", "mountPath": DATABASE, "readOnly": True}] if spec.database else []),
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _password(spec: LlmGatewaySpec) -> dict[str, Any]:
    only = [{"key": store.PASSWORD, "path": store.PASSWORD}]
    return {"secretName": spec.store, "defaultMode": 0o440, "items": only}


def _login(spec: LlmGatewaySpec) -> dict[str, Any]:
    return {"secretName": spec.database_secret, "defaultMode": 0o440}


def _environment(spec: LlmGatewaySpec) -> list[dict[str, Any]]:
    plain = {
        "HOME": "/tmp",
        "GATEWAY_PORT": str(PORT),
        "GATEWAY_METRICS_PORT": str(METRICS_PORT),
        "GATEWAY_KEYS": KEYS,
        "GATEWAY_MAX_OPEN": str(spec.max_open),
        "GATEWAY_MAX_BODY": str(spec.max_body),
        "GRACEFUL_SHUTDOWN_TIMEOUT": str(spec.drain_timeout),
        # Otherwise it reads a .env file, and asks GitHub for prices.
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "WARNING",
        "DISABLE_ADMIN_UI": "True",
        "NO_DOCS": "True",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if spec.limited:
        # Not called REDIS_…: LiteLLM would take it for its own.
        plain["GATEWAY_STORE"] = f"{spec.store}.{spec.namespace}.svc:{store.PORT}"
        plain["GATEWAY_STORE_PASSWORD_FILE"] = f"{STORE}/{store.PASSWORD}"
    if spec.database:
        # Not called DATABASE_URL either.
        plain["GATEWAY_DATABASE"] = ",".join(spec.database.addresses)
        plain["GATEWAY_DATABASE_NAME"] = spec.database.name
        plain["GATEWAY_DATABASE_USER"] = spec.database.user
        plain["GATEWAY_DATABASE_SECRET"] = DATABASE
    key: dict[str, Any] = {"name": litellm.UPSTREAM_KEY, "value": "none"}
    if spec.upstream_key:
        key = {
            "name": litellm.UPSTREAM_KEY,
            "valueFrom": {"secretKeyRef": {"name": spec.upstream_key, "key": "key"}},
        }
    return [*({"name": name, "value": value} for name, value in plain.items()), key]


def _network_policy(spec: LlmGatewaySpec) -> dict[str, Any]:
    """Who reaches the gateway, and what it reaches: a trojan has nowhere to send keys to."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(spec),
        "spec": {
            "podSelector": {"matchLabels": spec.labels},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [open_to(spec.clients, PORT), open_to_watcher(METRICS_PORT)],
            "egress": [to_names(), *_to_targets(spec), *_to_store(spec), *_to_database(spec)],
        },
    }


def _to_targets(spec: LlmGatewaySpec) -> list[dict[str, Any]]:
    targets = [target for model in spec.models for target in model.targets]
    rules = [{"to": [one.peer], "ports": [{"protocol": "TCP", "port": one.port}]} for one in targets]
    return [rule for place, rule in enumerate(rules) if rule not in rules[:place]]


def _to_store(spec: LlmGatewaySpec) -> list[dict[str, Any]]:
    peer = pods_of(spec.namespace, store.labels(spec.store))
    return [{"to": [peer], "ports": [{"protocol": "TCP", "port": store.PORT}]}] if spec.limited else []


def _to_database(spec: LlmGatewaySpec) -> list[dict[str, Any]]:
    return [
        {"to": [{"ipBlock": {"cidr": f"{host}/32"}}], "ports": [{"protocol": "TCP", "port": port}]}
        for host, port in (spec.database.peers if spec.database else ())
    ]


def _metadata(spec: LlmGatewaySpec, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    made = {"name": spec.name, "namespace": spec.namespace, "labels": spec.labels}
    return {**made, **({"annotations": annotations} if annotations else {})}
