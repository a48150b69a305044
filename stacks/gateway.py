"""The gateway of layer 5: one address for the models of a cluster, with keys and limits per team."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_random

from modules.gateway.llm_gateway import LlmGateway
from modules.gateway.llm_gateway_spec import Database, GatewayModel, LlmGatewaySpec, Target, Team
from modules.gateway.llm_gateway_store import LlmGatewayStore, LlmGatewayStoreSpec
from modules.inference.vllm_pod import PORT
from modules.inference.vllm_router import COMPONENT, router_name
from modules.inference.vllm_router import PORT as ROUTER_PORT
from sitewright.site import ServedModel, Site
from sitewright.site.service_sections import Gateway, GatewayAlias, GatewayDatabase, GatewayTeam
from stacks.access import database_login, nodes_and_machines
from stacks.handles import ClusterHandle
from stacks.retrieval import retrieval_models
from stacks.software import software

KEY_LENGTH = 40
BUDGET_SECONDS = 30 * 24 * 3600


def gateway(
    site: Site,
    wanted: Gateway,
    images: pulumi.Output[dict[str, str]],
    cluster: ClusterHandle,
    after: Sequence[pulumi.Resource],
) -> dict[str, pulumi.Output[str]]:
    """Makes the gateway. after: what must be there first. Returns the key of each team, as secrets."""
    keys = {team.name: _random(f"gateway-key-{team.name}") for team in wanted.teams}
    spec = _spec(site, wanted)
    LlmGateway(
        spec,
        pulumi.Output.all(
            image=images[wanted.image], python=software(site, wanted.environment).result("python")
        ),
        pulumi.Output.all(**keys) if keys else None,
        database_login(wanted.database) if wanted.database else None,
        pulumi.ResourceOptions(
            provider=cluster.provider, depends_on=[*after, *_store(spec, wanted, images, cluster, after)]
        ),
    )
    return {team: pulumi.Output.secret(key) for team, key in keys.items()}


def _random(name: str) -> pulumi.Output[str]:
    return pulumi_random.RandomPassword(name, length=KEY_LENGTH, special=False).result


def _store(
    spec: LlmGatewaySpec,
    wanted: Gateway,
    images: pulumi.Output[dict[str, str]],
    cluster: ClusterHandle,
    after: Sequence[pulumi.Resource],
) -> list[pulumi.Resource]:
    """What counts for all replicas, where a team has a limit per minute or at once."""
    if not spec.limited:
        return []
    given = LlmGatewayStoreSpec(
        name=spec.store,
        namespace=spec.namespace,
        image="",
        pool=spec.pool,
        taints=spec.taints,
        clients=spec.labels,
    )
    made = LlmGatewayStore(
        given,
        images[wanted.store_image],
        _random("gateway-store-password"),
        pulumi.ResourceOptions(provider=cluster.provider, depends_on=[*after]),
    )
    return made.ready


def _spec(site: Site, wanted: Gateway) -> LlmGatewaySpec:
    served = {model.name: model for model in site.services.models if model.cluster == wanted.cluster}
    return LlmGatewaySpec(
        image="",
        python="",
        shared_path=site.shared_filesystem.path,
        pool=wanted.pool,
        taints=tuple(site.pool(wanted.pool).taints),
        replicas=wanted.replicas,
        memory=wanted.memory,
        models=(
            *(GatewayModel(name=name, targets=(_target(model),)) for name, model in served.items()),
            *(_alias(alias, served) for alias in wanted.aliases),
            *retrieval_models(site),
        ),
        teams=tuple(_team(team) for team in wanted.teams if team.model_fields_set - {"name"}),
        database=_database(wanted.database) if wanted.database else None,
        node_port=wanted.node_port,
        clients=nodes_and_machines(site, wanted.cluster) if wanted.node_port is not None else (),
    )


def _team(team: GatewayTeam) -> Team:
    period = team.budget_period or (BUDGET_SECONDS if team.token_budget else None)
    return Team(
        **team.model_dump(exclude={"budget_period", "models"}),
        models=None if team.models is None else tuple(team.models),
        budget_seconds=period,
    )


def _database(wanted: GatewayDatabase) -> Database:
    return Database(addresses=tuple(wanted.addresses), name=wanted.name, user=wanted.user)


def _alias(alias: GatewayAlias, served: Mapping[str, ServedModel]) -> GatewayModel:
    targets = (
        _target(
            served[target.model],
            served_name=target.adapter or target.model,
            weight=target.weight,
        )
        for target in alias.targets
    )
    return GatewayModel(name=alias.name, targets=tuple(targets))


def _target(model: ServedModel, **more: Any) -> Target:
    """The router in front of its replicas, where it has one."""
    if model.router is not None:
        url = f"http://{router_name(model.name)}.default.svc:{ROUTER_PORT}/v1"
        return Target(api_base=url, component=COMPONENT, **more)
    return Target(api_base=f"http://{model.name}.default.svc:{PORT}/v1", **more)
