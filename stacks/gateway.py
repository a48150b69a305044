"""The gateway of layer 5: one address for the models of a cluster, with a key per team."""

from collections.abc import Sequence

import pulumi
import pulumi_random

from modules.llm_gateway import LlmGateway
from modules.llm_gateway_spec import GatewayModel, LlmGatewaySpec, Target
from modules.vllm_service import PORT
from sitewright.site import Site
from sitewright.site.sections import Gateway, GatewayAlias
from stacks.access import nodes_and_machines
from stacks.handles import ClusterHandle
from stacks.retrieval import retrieval_models
from stacks.software import software_run

KEY_LENGTH = 40


def gateway(
    site: Site,
    wanted: Gateway,
    images: pulumi.Output[dict[str, str]],
    cluster: ClusterHandle,
    after: Sequence[pulumi.Resource],
) -> dict[str, pulumi.Output[str]]:
    """Makes the gateway. after: what must be there first. Returns the key of each team, as secrets."""
    software = software_run(site, wanted.environment)
    keys = {
        team: pulumi_random.RandomPassword(f"gateway-key-{team}", length=KEY_LENGTH, special=False).result
        for team in wanted.teams
    }
    LlmGateway(
        _spec(site, wanted),
        pulumi.Output.all(image=images[wanted.image], python=software.result("python")),
        pulumi.Output.all(**keys) if keys else None,
        pulumi.ResourceOptions(provider=cluster.provider, depends_on=[*after]),
    )
    return {team: pulumi.Output.secret(key) for team, key in keys.items()}


def _spec(site: Site, wanted: Gateway) -> LlmGatewaySpec:
    served = [model.name for model in site.services.models if model.cluster == wanted.cluster]
    return LlmGatewaySpec(
        image="",
        python="",
        shared_path=site.shared_filesystem.path,
        pool=wanted.pool,
        taints=tuple(site.pool(wanted.pool).taints),
        replicas=wanted.replicas,
        memory=wanted.memory,
        models=(
            *(GatewayModel(name=name, targets=(Target(api_base=_url(name)),)) for name in served),
            *map(_alias, wanted.aliases),
            *retrieval_models(site),
        ),
        node_port=wanted.node_port,
        clients=nodes_and_machines(site, wanted.cluster) if wanted.node_port is not None else (),
    )


def _alias(alias: GatewayAlias) -> GatewayModel:
    targets = (
        Target(api_base=_url(target.model), served_name=target.adapter or target.model, weight=target.weight)
        for target in alias.targets
    )
    return GatewayModel(name=alias.name, targets=tuple(targets))


def _url(model: str) -> str:
    return f"http://{model}.default.svc:{PORT}/v1"
