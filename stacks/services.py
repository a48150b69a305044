"""Layer 5 of 5, services: the models a site serves.

Needs:    the ClusterHandle and the pool of each model.
Provides: ServicesHandle, the URL of each model.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pulumi

from modules.fine_tuning import FineTuning, FineTuningSpec
from modules.model_store import ModelStore, ModelStoreSpec
from modules.vllm_service import PORT, ServingPriority, VllmService, VllmServiceSpec
from sitewright.site import ServedModel, Site
from sitewright.site.sections import FineTuning as FineTuningSection
from sitewright.tuning.template import ADAPTERS
from stacks.access import environment, nodes_and_machines
from stacks.clusters import registry_images
from stacks.gateway import gateway
from stacks.handles import ClusterHandle, NodePoolHandle, PlatformHandle, ServicesHandle
from stacks.queues import queues


def services(
    site: Site, clusters: dict[str, ClusterHandle], platform: PlatformHandle, pools: NodePoolHandle
) -> ServicesHandle:
    if not site.services.models:
        return ServicesHandle()
    front, queued = site.services.gateway, site.services.batch_queues
    wanted = {model.image for model in site.services.models}
    wanted |= {other.image for other in (front, queued) if other is not None}
    names = tuple(sorted(wanted))
    images = registry_images(site, "service-images", names)
    priorities = {
        name: ServingPriority(
            name,
            opts=pulumi.ResourceOptions(provider=clusters[name].provider, depends_on=clusters[name].ready),
        )
        for name in sorted({model.cluster for model in site.services.models})
    }
    stores: dict[str, ModelStore] = {}
    served: dict[str, VllmService] = {}
    tunable: dict[str, pulumi.Output[dict[str, Any]]] = {}
    for model in site.services.models:
        # Models of one software environment in turn: two builds of it would write into one directory.
        before = [stores[model.environment]] if model.environment in stores else []
        store = ModelStore(
            _store(site, model), environment(site), opts=pulumi.ResourceOptions(depends_on=before)
        )
        stores[model.environment] = store
        published = pulumi.Output.all(
            image=images[model.image],
            python=store.python,
            model_path=store.model_path,
            model_digest=store.model_digest,
        )
        tunable[model.name] = published.apply(partial(_tunable, model))
        served[model.name] = VllmService(
            _spec(site, model),
            published,
            opts=pulumi.ResourceOptions(
                provider=clusters[model.cluster].provider,
                depends_on=[
                    priorities[model.cluster],
                    # Both may be of another stack, which was there before this one.
                    *platform.ready.get(model.cluster, ()),
                    *pools.ready.get(model.pool, ()),
                ],
            ),
        )
    if site.services.fine_tuning is not None:
        runs = site.services.fine_tuning
        cluster = clusters[site.pool(runs.pool).cluster]
        made = _fine_tuning(site, runs, cluster, tunable)
        if queued is not None:
            # Kueue is a pod, and what it judges calls it by name.
            needed = [made, *platform.ready.get(cluster.name, ()), *pools.ready.get(queued.pool, ())]
            queues(site, queued, runs, images, cluster, needed)
    keys = gateway(site, front, images, clusters[front.cluster], list(served.values())) if front else {}
    return ServicesHandle({model.name: _url(site, model) for model in site.services.models}, keys)


def _fine_tuning(
    site: Site,
    wanted: FineTuningSection,
    cluster: ClusterHandle,
    tunable: dict[str, pulumi.Output[dict[str, Any]]],
) -> FineTuning:
    pool = site.pool(wanted.pool)
    spec = FineTuningSpec(
        namespace=wanted.namespace,
        pool=pool.name,
        taints=tuple(pool.taints),
        gpus=wanted.gpus,
        cpus=wanted.cpus,
        memory=wanted.memory,
        shared_path=site.shared_filesystem.path,
        publish_dir=str(site.shared_filesystem.publish_dir),
    )
    return FineTuning(
        spec,
        {name: tunable[name] for name in wanted.models},
        opts=pulumi.ResourceOptions(provider=cluster.provider, depends_on=cluster.ready),
    )


def _tunable(model: ServedModel, found: Mapping[str, str]) -> dict[str, Any]:
    return {
        "path": found["model_path"],
        "digest": found["model_digest"],
        "python": found["python"],
        "image": found["image"],
        "max_length": model.max_model_len,
    }


def _store(site: Site, model: ServedModel) -> ModelStoreSpec:
    return ModelStoreSpec(
        name=model.name,
        model=model.model,
        environment=model.environment,
        publish_dir=str(site.shared_filesystem.publish_dir),
        path=site.shared_filesystem.path,
        adapters=f"{ADAPTERS}/{model.name}" if model.adapters else "",
    )


def _spec(site: Site, model: ServedModel) -> VllmServiceSpec:
    return VllmServiceSpec(
        name=model.name,
        image="",
        python="",
        model_path="",
        shared_path=site.shared_filesystem.path,
        pool=model.pool,
        taints=tuple(site.pool(model.pool).taints),
        replicas=model.replicas,
        gpus=model.gpus,
        cpus=model.cpus,
        memory=model.memory,
        node_port=model.node_port,
        clients=nodes_and_machines(site, model.cluster) if model.node_port is not None else (),
        max_model_len=model.max_model_len,
        adapters=f"{site.shared_filesystem.path}/{ADAPTERS}/{model.name}" if model.adapters else "",
    )


def _url(site: Site, model: ServedModel) -> str:
    """As the operator's machine reaches it; as pods do, where the model has no port on the nodes."""
    if model.node_port is None:
        return f"http://{model.name}.default.svc:{PORT}/v1"
    node = site.pool_nodes(model.pool)[0]
    host, port = site.operator_endpoint(node.address, model.node_port)
    return f"http://{host}:{port}/v1"
