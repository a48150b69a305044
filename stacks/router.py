"""The routers of layer 5: in front of the replicas of the models that ask for one."""

from collections.abc import Mapping

import pulumi

from modules.inference.vllm_router import VllmRouter, VllmRouterSpec
from sitewright.site import ServedModel, Site
from sitewright.site.service_sections import Router
from stacks.handles import ClusterHandle
from stacks.software import software


def routers(
    site: Site,
    clusters: Mapping[str, ClusterHandle],
    images: pulumi.Output[dict[str, str]],
    served: Mapping[str, pulumi.Resource],
) -> list[VllmRouter]:
    routed = [(model, model.router) for model in site.services.models if model.router is not None]
    environments = {
        name: software(site, name) for name in sorted({router.environment for _, router in routed})
    }
    return [
        VllmRouter(
            _spec(site, model, router),
            pulumi.Output.all(
                image=images[model.image], python=environments[router.environment].result("python")
            ),
            pulumi.ResourceOptions(
                provider=clusters[model.cluster].provider, depends_on=[served[model.name]]
            ),
        )
        for model, router in routed
    ]


def _spec(site: Site, model: ServedModel, router: Router) -> VllmRouterSpec:
    pool = site.pool(router.pool or model.pool)
    return VllmRouterSpec(
        model=model.name,
        image="",
        python="",
        shared_path=site.shared_filesystem.path,
        pool=pool.name,
        taints=tuple(pool.taints),
        replicas=router.replicas,
        policy=router.policy,
        api_servers=tuple(site.control_plane_addresses(model.cluster)),
    )
