"""The models of layer 5: their weights and software on the shared file system, and what serves them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pulumi

from modules.inference.model_store import ModelStore, ModelStoreSpec
from modules.inference.vllm_group_service import VllmGroupService, VllmGroupServiceSpec
from modules.inference.vllm_pod import PORT, VllmServiceSpec
from modules.inference.vllm_service import ServingPriority, VllmService
from sitewright.site import ServedModel, Site
from sitewright.tuning.template import ADAPTERS
from stacks.access import environment, nodes_and_machines
from stacks.handles import ClusterHandle, NodePoolHandle, PlatformHandle


@dataclass(frozen=True)
class Models:
    """By name of the model. tunable: what a fine-tuning run needs to know of it."""

    served: dict[str, VllmService | VllmGroupService] = field(default_factory=dict)
    tunable: dict[str, pulumi.Output[dict[str, Any]]] = field(default_factory=dict)


def models(
    site: Site,
    clusters: Mapping[str, ClusterHandle],
    platform: PlatformHandle,
    pools: NodePoolHandle,
    images: pulumi.Output[dict[str, str]],
) -> Models:
    priorities = {
        name: ServingPriority(
            name,
            opts=pulumi.ResourceOptions(provider=clusters[name].provider, depends_on=clusters[name].ready),
        )
        for name in sorted({model.cluster for model in site.services.models})
    }
    stores: dict[str, ModelStore] = {}
    found = Models()
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
        found.tunable[model.name] = published.apply(partial(_tunable, model))
        found.served[model.name] = _service(site, model)(
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
    return found


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


def _service(site: Site, model: ServedModel) -> Callable[..., VllmService | VllmGroupService]:
    """What serves it: pods of their own, or groups of them."""
    spec = _spec(site, model)
    if model.nodes == 1:
        return partial(VllmService, spec)
    fabric = site.services.fabric
    group = {"nodes": model.nodes, "fabric": fabric.model_dump() if fabric else None}
    # Its own, longer startup budget holds.
    alone = spec.model_dump(exclude={"startup_budget"})
    return partial(VllmGroupService, VllmGroupServiceSpec.model_validate(alone | group))


def _spec(site: Site, model: ServedModel) -> VllmServiceSpec:
    return VllmServiceSpec(
        name=model.name,
        image="",
        python="",
        model_path="",
        shared_path=site.shared_filesystem.path,
        pool=model.pool,
        taints=tuple(site.pool(model.pool).taints),
        flavour=site.pool(model.pool).flavour,
        replicas=model.replicas,
        gpus=model.gpus,
        cpus=model.cpus,
        memory=model.memory,
        node_port=model.node_port,
        clients=nodes_and_machines(site, model.cluster) if model.node_port is not None else (),
        max_model_len=model.max_model_len,
        adapters=f"{site.shared_filesystem.path}/{ADAPTERS}/{model.name}" if model.adapters else "",
    )


def url_of(site: Site, model: ServedModel) -> str:
    """As the operator's machine reaches it; as pods do, where the model has no port on the nodes."""
    if model.node_port is None:
        return f"http://{model.name}.default.svc:{PORT}/v1"
    node = site.pool_nodes(model.pool)[0]
    host, port = site.operator_endpoint(node.address, model.node_port)
    return f"http://{host}:{port}/v1"
