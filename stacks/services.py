"""Layer 5 of 5, services: the models a site serves, and what stands around them.

Needs:    the ClusterHandle and the pool of each model.
Provides: ServicesHandle, the URL of each model and the keys of the gateway.
"""

import pulumi

from sitewright.site import Site
from stacks.clusters import registry_images
from stacks.fine_tuning import fine_tuning
from stacks.gateway import gateway
from stacks.handles import ClusterHandle, NodePoolHandle, PlatformHandle, ServicesHandle
from stacks.models import models, url_of
from stacks.queues import queues
from stacks.retrieval import retrieval
from stacks.router import routers
from stacks.slo import slo


def services(
    site: Site, clusters: dict[str, ClusterHandle], platform: PlatformHandle, pools: NodePoolHandle
) -> ServicesHandle:
    if not site.services.models:
        return ServicesHandle()
    runs, queued = site.services.fine_tuning, site.services.batch_queues
    front, lookup, watched = site.services.gateway, site.services.retrieval, site.services.slo
    wanted = [model.image for model in site.services.models]
    wanted += [one.image for one in (front, lookup, watched, queued) if one]
    wanted += [front.store_image] if front and front.counted else []
    names = tuple(sorted(set(wanted)))
    images = registry_images(site, "service-images", names)

    def pods_run(cluster: str, pool: str) -> list[pulumi.Resource]:
        """What must be there first. Both may be of another stack, which was there before this one."""
        return [*platform.ready.get(cluster, ()), *pools.ready.get(pool, ())]

    found = models(site, clusters, platform, pools, images)
    if runs is not None:
        cluster = clusters[site.pool(runs.pool).cluster]
        made = fine_tuning(site, runs, cluster, found.tunable)
        if queued is not None:
            # Kueue is a pod, and what it judges calls it by name.
            queues(site, queued, runs, images, cluster, [made, *pods_run(cluster.name, queued.pool)])
    served = list(found.served.values())
    behind: list[pulumi.Resource] = [*served, *routers(site, clusters, images, found.served)]
    if front and lookup:
        behind.append(retrieval(site, lookup, images, clusters[front.cluster], served))
    keys = gateway(site, front, images, clusters[front.cluster], behind) if front else {}
    if watched is not None:
        slo(site, watched, images, clusters[watched.cluster], pods_run(watched.cluster, watched.pool))
    return ServicesHandle({model.name: url_of(site, model) for model in site.services.models}, keys)
