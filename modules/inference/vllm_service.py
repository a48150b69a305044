"""A model served by vLLM: replicas that load slowly, drain politely and are spread over nodes."""

from typing import Any

import pulumi

from modules.inference.serving import disruption_budget, service
from modules.inference.vllm_pod import (
    MIN_READY_SECONDS,
    PORT,
    PRIORITY_CLASS,
    SLACK_SECONDS,
    VllmServiceSpec,
    labels,
    network_policy,
    pod,
    programs,
    turn,
)
from modules.manifest import Manifest
from modules.published import make
from modules.spec import REVISIONS_KEPT


def render(spec: VllmServiceSpec) -> list[dict[str, Any]]:
    """The manifests of one served model, in the order they are applied."""
    budget = [disruption_budget(spec.name, spec.namespace, labels(spec))] if spec.replicas > 1 else []
    front = service(spec.name, spec.namespace, labels(spec), PORT, spec.node_port)
    return [network_policy(spec), programs(spec), front, *budget, _deployment(spec)]


def priority_class() -> dict[str, Any]:
    """Serving goes before what says nothing (priority 0), such as batch jobs, and after the cluster's own."""
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": PRIORITY_CLASS},
        "value": 1_000_000,
        "description": "Served models: they take nodes from batch jobs and lose theirs last.",
    }


class ServingPriority(pulumi.ComponentResource):
    """The priority of all models of a cluster, which must be there before the first of them."""

    def __init__(self, cluster: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("sitewright:modules:ServingPriority", cluster, None, opts)
        Manifest(priority_class(), f"{cluster}-priorityclass", pulumi.ResourceOptions(parent=self))
        self.register_outputs({})


class VllmService(pulumi.ComponentResource):
    """A model that answers once `ready` is there.

    image, python, model_path, model_digest: known only once they are published; they replace those of `spec`.
    """

    def __init__(
        self,
        spec: VllmServiceSpec,
        published: pulumi.Input[dict[str, str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("sitewright:modules:VllmService", spec.name, None, opts)
        self.ready = make(self, spec, published, render)
        self.url = f"http://{spec.name}.{spec.namespace}.svc:{PORT}/v1"
        self.register_outputs({"url": self.url})


def _deployment(spec: VllmServiceSpec) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": labels(spec),
            # The replicas in turn. One that never comes is noticed earlier, by the deadline below.
            "annotations": {"pulumi.com/timeoutSeconds": str(spec.replicas * turn(spec) + SLACK_SECONDS)},
        },
        "spec": {
            "replicas": spec.replicas,
            "revisionHistoryLimit": REVISIONS_KEPT,
            "selector": {"matchLabels": labels(spec)},
            # No spare GPUs are needed for an update: one replica goes before the next comes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "minReadySeconds": MIN_READY_SECONDS,
            "progressDeadlineSeconds": turn(spec),
            "template": {
                "metadata": {
                    "labels": labels(spec),
                    "annotations": {"sitewright.dev/model-digest": spec.model_digest},
                },
                "spec": pod(spec),
            },
        },
    }
