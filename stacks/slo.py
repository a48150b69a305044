"""Prometheus of layer 5: it watches the models of a cluster."""

from collections.abc import Sequence

import pulumi

from modules.gateway.llm_gateway_spec import NAME
from modules.slo.serving_slo import ServingSlo, ServingSloSpec
from modules.slo.serving_slo_rules import Objective
from sitewright.site import Site
from sitewright.site.service_sections import Slo
from stacks.access import nodes_and_machines
from stacks.handles import ClusterHandle


def slo(
    site: Site,
    wanted: Slo,
    images: pulumi.Output[dict[str, str]],
    cluster: ClusterHandle,
    after: Sequence[pulumi.Resource],
) -> None:
    """after: what must be there before a pod can run."""
    ServingSlo(
        _spec(site, wanted),
        images[wanted.image],
        pulumi.ResourceOptions(provider=cluster.provider, depends_on=[*after]),
    )


def _spec(site: Site, wanted: Slo) -> ServingSloSpec:
    gateway = site.services.gateway
    said = {objective.model: objective.model_dump() for objective in wanted.objectives}
    return ServingSloSpec(
        image="",
        pool=wanted.pool,
        taints=tuple(site.pool(wanted.pool).taints),
        memory=wanted.memory,
        stored=wanted.memory // 4,
        node_port=wanted.node_port,
        gateway=NAME if gateway and gateway.cluster == wanted.cluster else None,
        routed=tuple(
            model.name for model in site.services.models if model.cluster == wanted.cluster and model.router
        ),
        clients=nodes_and_machines(site, wanted.cluster) if wanted.node_port is not None else (),
        objectives=tuple(
            Objective.model_validate(
                {"model": model.name, "replicas": model.replicas, **said.get(model.name, {})}
            )
            for model in site.services.models
            if model.cluster == wanted.cluster
        ),
    )
