"""Prometheus beside the models of a cluster: it scrapes all that answers, and calls when an objective is missed.

Where a site has an operator for Prometheus, `render_for_operator` gives the same rules in its form, to apply there.
"""

from ipaddress import IPv4Network
from typing import Annotated, Any, Self

import pulumi
import yaml
from pydantic import Field, model_validator

from modules.inference.serving import (
    WATCHER,
    locked_down,
    needs,
    open_to,
    service,
    settings,
    to_names,
    toleration,
    unprivileged,
)
from modules.published import make
from modules.slo.serving_slo_rules import Objective, rules
from modules.slo.serving_slo_watched import MODELS, Watched, jobs, watched
from modules.spec import DNS_LABEL, MEBI, REVISIONS_KEPT, TAINT, Model, quantity
from sitewright.site.names import POOL_LABEL

PORT = 9090
SETTINGS, DATA = "/etc/prometheus", "/prometheus"
SCRAPE_SECONDS = 15


class ServingSloSpec(Model):
    name: str = Field("prometheus", pattern=DNS_LABEL)
    namespace: str = Field("default", pattern=DNS_LABEL, description="of the models, and of Prometheus")
    image: str = Field(description="container image by digest")
    pool: str = Field(pattern=DNS_LABEL, description="pool whose nodes may run it")
    taints: tuple[Annotated[str, Field(pattern=TAINT)], ...] = Field((), description="of the pool's nodes")
    memory: int = Field(512 * MEBI, ge=256 * MEBI, description="bytes, limit; `stored` is part of it")
    stored: int = Field(128 * MEBI, ge=64 * MEBI, description="bytes of samples; the oldest go first")
    days: int = Field(15, ge=1, description="samples are kept at most")
    objectives: tuple[Objective, ...] = Field(min_length=1, description="one for each model")
    gateway: str | None = Field(None, pattern=DNS_LABEL, description="name of the LlmGateway before them")
    routed: tuple[str, ...] = Field((), description="models with a VllmRouter before them")
    node_port: int | None = Field(None, ge=30000, le=32767)
    clients: tuple[IPv4Network, ...] = Field((), description="who may ask, beside pods of the namespace")

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        names = [objective.model for objective in self.objectives]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"objectives: {', '.join(twice)} is there twice")
        if strange := sorted(set(self.routed) - set(names)):
            raise ValueError(f"routed: {', '.join(strange)} has no objective")
        if self.stored * 2 > self.memory:
            raise ValueError("stored: more than half of memory, and Prometheus needs the other half itself")
        return self


def render(spec: ServingSloSpec) -> list[dict[str, Any]]:
    """The manifests of Prometheus, in the order they are applied."""
    front = service(spec.name, spec.namespace, _labels(spec), PORT, spec.node_port)
    names = [_names(spec, one) for one in _watched(spec)]
    return [_network_policy(spec), *names, _settings(spec), front, _deployment(spec)]


def render_for_operator(spec: ServingSloSpec) -> list[dict[str, Any]]:
    """The same for a site whose cluster has the Prometheus operator: what to scrape, and the rules."""
    group = "monitoring.coreos.com/v1"
    return [
        {
            "apiVersion": group,
            "kind": "PodMonitor",
            "metadata": _metadata(spec),
            "spec": {
                "selector": {"matchLabels": {"app.kubernetes.io/component": "vllm"}},
                "podMetricsEndpoints": [
                    {
                        "port": "http",
                        "interval": f"{SCRAPE_SECONDS}s",
                        "honorLabels": True,
                        "relabelings": [
                            {"targetLabel": "job", "replacement": MODELS},
                            {
                                "sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_name"],
                                "targetLabel": "model_name",
                            },
                        ],
                    }
                ],
            },
        },
        {
            "apiVersion": group,
            "kind": "PrometheusRule",
            "metadata": _metadata(spec),
            "spec": rules(spec.objectives, spec.gateway, spec.routed),
        },
    ]


class ServingSlo(pulumi.ComponentResource):
    """A Prometheus that scrapes once `ready` is there. image: known only once it is published."""

    def __init__(
        self, spec: ServingSloSpec, image: pulumi.Input[str], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("sitewright:modules:ServingSlo", spec.name, None, opts)
        made = pulumi.Output.from_input(image).apply(lambda found: {"image": found})
        self.ready = make(self, spec, made, render)
        self.register_outputs({})


def config(spec: ServingSloSpec) -> dict[str, Any]:
    """prometheus.yml."""
    return {
        "global": {
            "scrape_interval": f"{SCRAPE_SECONDS}s",
            "evaluation_interval": f"{SCRAPE_SECONDS}s",
            "scrape_timeout": "10s",
        },
        "rule_files": [f"{SETTINGS}/rules.yml"],
        "scrape_configs": [
            *jobs(_watched(spec), spec.namespace, SCRAPE_SECONDS),
            {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{PORT}"]}]},
        ],
    }


def _watched(spec: ServingSloSpec) -> list[Watched]:
    return watched([one.model for one in spec.objectives], spec.routed, spec.gateway)


def _names(spec: ServingSloSpec, of: Watched) -> dict[str, Any]:
    """A name in the cluster's DNS with the addresses of all pods, also of those that are not ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            **_metadata(spec),
            "name": of.names,
            # Applied before its pods exist, and never with an address of its own.
            "annotations": {"pulumi.com/skipAwait": "true"},
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"app.kubernetes.io/name": of.name},
            "ports": [{"name": "http", "port": of.port}],
        },
    }


def _data(spec: ServingSloSpec) -> dict[str, str]:
    return {
        "prometheus.yml": yaml.safe_dump(config(spec), sort_keys=False),
        "rules.yml": yaml.safe_dump(
            rules(spec.objectives, spec.gateway, spec.routed), sort_keys=False, width=1000
        ),
    }


def _settings(spec: ServingSloSpec) -> dict[str, Any]:
    """Prometheus reads its files once: others mean another pod, and the samples begin anew."""
    return settings(_metadata(spec), _data(spec))


def _deployment(spec: ServingSloSpec) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(spec),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": REVISIONS_KEPT,
            "selector": {"matchLabels": _labels(spec)},
            "strategy": {"type": "Recreate"},
            "template": {
                "metadata": {"labels": _labels(spec)},
                "spec": _pod(spec),
            },
        },
    }


def _pod(spec: ServingSloSpec) -> dict[str, Any]:
    return {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "nodeSelector": {POOL_LABEL: spec.pool},
        **({"tolerations": [toleration(taint) for taint in spec.taints]} if spec.taints else {}),
        "securityContext": unprivileged(own_volumes=True),
        "containers": [_container(spec)],
        "volumes": [
            {"name": "settings", "configMap": {"name": _settings(spec)["metadata"]["name"]}},
            # Nodes have no disk: samples lie in memory, and go with the pod.
            {"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": quantity(spec.stored)}},
        ],
    }


def _container(spec: ServingSloSpec) -> dict[str, Any]:
    return {
        "name": "prometheus",
        "image": spec.image,
        "args": [
            f"--config.file={SETTINGS}/prometheus.yml",
            f"--storage.tsdb.path={DATA}",
            f"--storage.tsdb.retention.time={spec.days}d",
            # A block being written needs room beside those that are kept.
            f"--storage.tsdb.retention.size={spec.stored // 2}B",
            # By themselves they reserve 512 and 128 MB at once: more than there is, and no block is ever written.
            "--storage.tsdb.max-block-chunk-segment-size=16MB",
            "--storage.tsdb.wal-segment-size=10MB",
            f"--web.listen-address=0.0.0.0:{PORT}",
        ],
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": {**_probe("/-/ready"), "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**_probe("/-/ready"), "periodSeconds": 5, "timeoutSeconds": 5},
        "livenessProbe": {
            **_probe("/-/healthy"),
            "periodSeconds": 15,
            "timeoutSeconds": 10,
            "failureThreshold": 4,
        },
        "securityContext": locked_down(),
        "resources": needs("100m", spec.memory),
        "volumeMounts": [
            {"name": "settings", "mountPath": SETTINGS, "readOnly": True},
            {"name": "data", "mountPath": DATA},
        ],
    }


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": PORT}}


def _network_policy(spec: ServingSloSpec) -> dict[str, Any]:
    """Pods of the namespace may look; it reaches names and what it watches only."""
    kinds = dict.fromkeys((one.component, one.port) for one in _watched(spec))
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(spec),
        "spec": {
            "podSelector": {"matchLabels": _labels(spec)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [open_to(spec.clients, PORT)],
            "egress": [
                to_names(),
                *(
                    {
                        "to": [{"podSelector": {"matchLabels": {"app.kubernetes.io/component": component}}}],
                        "ports": [{"protocol": "TCP", "port": port}],
                    }
                    for component, port in kinds
                ),
            ],
        },
    }


def _metadata(spec: ServingSloSpec) -> dict[str, Any]:
    return {"name": spec.name, "namespace": spec.namespace, "labels": _labels(spec)}


def _labels(spec: ServingSloSpec) -> dict[str, str]:
    return {"app.kubernetes.io/name": spec.name, "app.kubernetes.io/component": WATCHER}
