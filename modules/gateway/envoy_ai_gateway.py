"""The gateway as Envoy AI Gateway understands it, from the same spec as LiteLLM's: for a cluster that runs it already.

Forms: Envoy AI Gateway 1.0.0, Envoy Gateway 1.8.1 and Gateway API 1.5.1, by their published definitions, which a real
API server applies in tests/contracts/test_envoy_definitions.py. No Envoy has run any of it here.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from modules.gateway.llm_gateway import secret
from modules.gateway.llm_gateway_spec import GatewayModel, LlmGatewaySpec, Target
from modules.inference.serving import toleration
from modules.spec import quantity
from sitewright.site.names import POOL_LABEL

AI, ENVOY, GATEWAY = "aigateway.envoyproxy.io", "gateway.envoyproxy.io", "gateway.networking.k8s.io"
CLASS = "envoy-ai-gateway"  # GatewayClass, which the site's installation made
MODEL_HEADER = "x-ai-eg-model"  # Envoy AI Gateway puts the model of the request there
TEAM_HEADER = "x-sitewright-team"
RULES = 15  # of one AIGatewayRoute
PORT = 4000
CONNECT_SECONDS, RETRIES = 2, 3


class UnsupportedError(ValueError):
    """The spec wants what Envoy AI Gateway has no words for."""


def render(spec: LlmGatewaySpec, gateway_class: str = CLASS) -> list[dict[str, Any]]:
    """The manifests, in the order they are applied. The two Secrets are those of LiteLLM's gateway, without entries.

    A key in both is let in: Envoy looks at the active ones only, so who blocks a team has to take its entry out there.
    Raises: UnsupportedError, naming what of the spec cannot be said here.
    """
    _require_words(spec)
    targets = {_name(spec, target): target for model in spec.models for target in model.targets}
    backends = [one for name, target in sorted(targets.items()) for one in _backend(spec, name, target)]
    routes = [one for part in _parts(spec) for one in part]
    secrets = [secret(spec, spec.active_secret), secret(spec, spec.blocked_secret)]
    front = [_proxy(spec), _gateway(spec, gateway_class), _listener(spec), _keys(spec)]
    return [*secrets, *front, *backends, *routes]


def _require_words(spec: LlmGatewaySpec) -> None:
    """Everything is refused that would be left out without a word."""
    wanted = {
        "teams": bool(spec.teams),
        "default_models": spec.default_models is not None,
        "upstream_key": spec.upstream_key is not None,
        "node_port": spec.node_port is not None,
        "api_base with https": any(t.api_base.startswith("https:") for m in spec.models for t in m.targets),
    }
    if missing := [name for name, given in wanted.items() if given]:
        raise UnsupportedError(
            f"{', '.join(missing)}: Envoy AI Gateway cannot be told; use LiteLLM, or leave it out"
        )


def _proxy(spec: LlmGatewaySpec) -> dict[str, Any]:
    """How Envoy itself runs: where, how many, and how it ends."""
    tolerations = {"tolerations": [toleration(taint) for taint in spec.taints]} if spec.taints else {}
    resources = {
        "requests": {"cpu": "250m", "memory": quantity(spec.memory)},
        "limits": {"memory": quantity(spec.memory)},
    }
    kubernetes: dict[str, Any] = {
        "envoyDeployment": {
            "replicas": spec.replicas,
            "pod": {"nodeSelector": {POOL_LABEL: spec.pool}, **tolerations},
            "container": {"resources": resources},
        },
        "envoyService": {"type": "ClusterIP"},
    }
    if spec.replicas > 1:
        kubernetes["envoyPDB"] = {"maxUnavailable": 1}
    return _object(
        f"{ENVOY}/v1alpha1",
        "EnvoyProxy",
        spec,
        {
            "provider": {"type": "Kubernetes", "kubernetes": kubernetes},
            "shutdown": {"drainTimeout": f"{spec.drain_timeout}s", "minDrainDuration": "15s"},
        },
    )


def _gateway(spec: LlmGatewaySpec, gateway_class: str) -> dict[str, Any]:
    parameters = {"group": ENVOY, "kind": "EnvoyProxy", "name": spec.name}
    return _object(
        f"{GATEWAY}/v1",
        "Gateway",
        spec,
        {
            "gatewayClassName": gateway_class,
            "listeners": [{"name": "http", "protocol": "HTTP", "port": PORT}],
            "infrastructure": {"parametersRef": parameters},
        },
    )


def _listener(spec: LlmGatewaySpec) -> dict[str, Any]:
    """What a client may send. A request is read whole before its model is known."""
    return _object(
        f"{ENVOY}/v1alpha1",
        "ClientTrafficPolicy",
        spec,
        {
            "targetRefs": [_to(GATEWAY, "Gateway", spec.name)],
            "connection": {"bufferLimit": str(spec.max_body)},
        },
    )


def _keys(spec: LlmGatewaySpec) -> dict[str, Any]:
    """A name in the Secret is the team. `Bearer ` before a key is taken off by Envoy."""
    secret = {"group": "", "kind": "Secret", "name": spec.active_secret}
    return _object(
        f"{ENVOY}/v1alpha1",
        "SecurityPolicy",
        spec,
        {
            "targetRefs": [_to(GATEWAY, "Gateway", spec.name)],
            "apiKeyAuth": {
                "credentialRefs": [secret],
                "extractFrom": [{"headers": ["Authorization"]}],
                "forwardClientIDHeader": TEAM_HEADER,
                "sanitize": True,
            },
        },
    )


def _backend(spec: LlmGatewaySpec, name: str, target: Target) -> Iterator[dict[str, Any]]:
    where = {"address": target.host} if target.address else {"hostname": f"{target.host}.cluster.local"}
    endpoint = {"ip" if target.address else "fqdn": {**where, "port": target.port}}
    yield _object(f"{ENVOY}/v1alpha1", "Backend", spec, {"endpoints": [endpoint]}, name)
    prefix = urlsplit(target.api_base).path
    yield _object(
        f"{AI}/v1beta1",
        "AIServiceBackend",
        spec,
        {
            "schema": {"name": "OpenAI", "prefix": prefix},
            "backendRef": {"group": ENVOY, "kind": "Backend", "name": name},
        },
        name,
    )


def _parts(spec: LlmGatewaySpec) -> Iterator[list[dict[str, Any]]]:
    """A route takes so many rules, and each model is one."""
    for place, begin in enumerate(range(0, len(spec.models), RULES)):
        name = spec.name if place == 0 else f"{spec.name}-{place + 1}"
        rules = [_rule(spec, model) for model in spec.models[begin : begin + RULES]]
        parent = _to(GATEWAY, "Gateway", spec.name)
        yield [
            _object(f"{AI}/v1beta1", "AIGatewayRoute", spec, {"parentRefs": [parent], "rules": rules}, name),
            _traffic(spec, name),
        ]


def _rule(spec: LlmGatewaySpec, model: GatewayModel) -> dict[str, Any]:
    by_name = {one.name: one for one in spec.models}
    in_turn = [model, *(by_name[name] for name in model.fallbacks)]
    return {
        "matches": [{"headers": [{"type": "Exact", "name": MODEL_HEADER, "value": model.name}]}],
        "backendRefs": [
            {
                "name": _name(spec, target),
                "modelNameOverride": target.served_name or one.name,
                "weight": target.weight,
                "priority": priority,
            }
            for priority, one in enumerate(in_turn)
            for target in one.targets
        ],
        "timeouts": {"request": f"{spec.total_seconds}s"},
        "modelsOwnedBy": "sitewright",
    }


def _traffic(spec: LlmGatewaySpec, route: str) -> dict[str, Any]:
    """Of the HTTPRoute of that name, which Envoy AI Gateway makes of the route."""
    return _object(
        f"{ENVOY}/v1alpha1",
        "BackendTrafficPolicy",
        spec,
        {
            "targetRefs": [_to(GATEWAY, "HTTPRoute", route)],
            "timeout": {
                "tcp": {"connectTimeout": f"{CONNECT_SECONDS}s"},
                "http": {"streamIdleTimeout": f"{spec.stall_seconds}s"},
            },
            "retry": {
                "numRetries": RETRIES,
                "numAttemptsPerPriority": 1,
                # vLLM answers 503 where its queue is full; what an engine did not take can be asked for elsewhere.
                "retryOn": {
                    "httpStatusCodes": [503],
                    "triggers": ["connect-failure", "refused-stream", "retriable-status-codes"],
                },
            },
            "circuitBreaker": {"maxParallelRequests": spec.max_open, "maxPendingRequests": spec.max_open},
        },
        route,
    )


def _name(spec: LlmGatewaySpec, target: Target) -> str:
    """One for each address: models that are served at the same one share it."""
    return f"{spec.name}-{target.host.removesuffix('.svc').replace('.', '-')}-{target.port}"


def _to(group: str, kind: str, name: str) -> dict[str, str]:
    return {"group": group, "kind": kind, "name": name}


def _object(
    version: str, kind: str, spec: LlmGatewaySpec, content: dict[str, Any], name: str = ""
) -> dict[str, Any]:
    metadata = {"name": name or spec.name, "namespace": spec.namespace, "labels": spec.labels}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": content}
