"""What Prometheus asks for metrics: the replicas of models, their routers and the gateway."""

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any, NamedTuple

from modules.gateway.llm_gateway import METRICS_PORT as GATEWAY_PORT
from modules.gateway.llm_gateway_spec import COMPONENT as GATEWAY
from modules.inference.vllm_pod import PORT as MODEL_PORT
from modules.inference.vllm_router import COMPONENT as ROUTER
from modules.inference.vllm_router import METRICS_PORT as ROUTER_PORT
from modules.inference.vllm_router import router_name

MODELS, ROUTERS, GATEWAYS = "models", "routers", "gateways"  # jobs


class Watched(NamedTuple):
    """Pods that are scraped: by their name and component.

    names: the Service without an address of its own whose name in DNS has all their addresses; model: which they serve.
    """

    job: str
    name: str
    names: str
    component: str
    port: int
    model: str = ""


def watched(models: Iterable[str], routed: Iterable[str], gateway: str | None) -> list[Watched]:
    """All that is scraped. routed: models with a router before them; gateway: its name, where there is one."""
    return [
        *(Watched(MODELS, model, f"{model}-replicas", "vllm", MODEL_PORT, model) for model in models),
        *(
            Watched(ROUTERS, router_name(model), f"{model}-routers", ROUTER, ROUTER_PORT, model)
            for model in routed
        ),
        *([Watched(GATEWAYS, gateway, f"{gateway}-replicas", GATEWAY, GATEWAY_PORT)] if gateway else []),
    ]


def jobs(found: Iterable[Watched], namespace: str, seconds: int) -> list[dict[str, Any]]:
    """Scrape jobs, each for what stands together in `found`. seconds: between two looks for new pods."""
    return [_job(job, list(of), namespace, seconds) for job, of in groupby(found, lambda one: one.job)]


def _job(job: str, found: list[Watched], namespace: str, seconds: int) -> dict[str, Any]:
    labelled = [
        {
            "source_labels": ["__meta_dns_name"],
            "regex": rf"{re.escape(one.names)}\..+",
            "target_label": "model_name",
            "replacement": one.model,
        }
        for one in found
        if one.model
    ]
    return {
        "job_name": job,
        # vLLM names the model itself; the label of the target is for `up`.
        "honor_labels": True,
        # Debian's Prometheus knows no Kubernetes; the names of pods without a virtual address are enough.
        "dns_sd_configs": [
            {
                "names": [f"{one.names}.{namespace}.svc.cluster.local"],
                "type": "A",
                "port": one.port,
                "refresh_interval": f"{seconds}s",
            }
            for one in found
        ],
        **({"relabel_configs": labelled} if labelled else {}),
    }
