"""The queues of layer 5: whose fine-tuning run starts next."""

from collections.abc import Sequence

import pulumi

from modules.queues.batch_queues import BatchQueues
from modules.queues.batch_queues_spec import BatchQueuesSpec, Flavor, Quota
from sitewright.site import Site
from sitewright.site.service_sections import Amount, FineTuning
from sitewright.site.service_sections import BatchQueues as BatchQueuesSection
from stacks.handles import ClusterHandle


def queues(
    site: Site,
    wanted: BatchQueuesSection,
    runs: FineTuning,
    images: pulumi.Output[dict[str, str]],
    cluster: ClusterHandle,
    after: Sequence[pulumi.Resource],
) -> None:
    """Makes the queues. after: what must be there first, the namespace of the runs among it."""
    BatchQueues(
        _spec(site, wanted, runs),
        images[wanted.image],
        pulumi.ResourceOptions(provider=cluster.provider, depends_on=[*after]),
    )


def _spec(site: Site, wanted: BatchQueuesSection, runs: FineTuning) -> BatchQueuesSpec:
    flavor = Flavor(
        pool=runs.pool,
        taints=tuple(site.pool(runs.pool).taints),
        guaranteed=_guaranteed(site, runs.pool),
        lendable=_quota(wanted.lend),
        fine_tuning=_quota(wanted.quota),
    )
    return BatchQueuesSpec(
        image="",
        pool=wanted.pool,
        taints=tuple(site.pool(wanted.pool).taints),
        namespace=runs.namespace,
        flavors=(flavor,),
        teams=tuple(wanted.teams),
        priorities=wanted.priorities,
    )


def _guaranteed(site: Site, pool: str) -> Quota:
    """What the models of a pool hold."""
    models = [model for model in site.services.models if model.pool == pool]
    return Quota(
        cpus=sum(model.replicas * model.cpus for model in models),
        memory=sum(model.replicas * model.memory for model in models),
        gpus=sum(model.replicas * model.gpus for model in models),
    )


def _quota(amount: Amount) -> Quota:
    return Quota(cpus=amount.cpus, memory=amount.memory, gpus=amount.gpus)
