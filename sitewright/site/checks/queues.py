"""Whether runs can ever leave their queue, and whether what they may take is there."""

from collections.abc import Callable, Iterator

from sitewright.site.checks.finding import Finding, Known
from sitewright.site.kubernetes_values import as_quantity
from sitewright.site.model import Site
from sitewright.site.plan import present
from sitewright.site.problems import Loc, did_you_mean
from sitewright.site.sections import Pool
from sitewright.site.service_sections import BatchQueues, FineTuning

LOC: Loc = ("services", "batch_queues")
_TEXTS: dict[str, Callable[[int], str]] = {
    "cpus": lambda count: f"{count} CPUs",
    "memory": lambda count: f"{as_quantity(count)} of memory",
    "gpus": lambda count: f"{count} GPUs",
}


def check(site: Site, known: Known) -> Iterator[Finding]:
    queues, runs = site.services.batch_queues, site.services.fine_tuning
    if queues is None:
        return
    yield from _teams(queues)
    if runs is None:
        yield Finding(LOC, "no runs would wait in them; add services.fine_tuning")
        return
    pools = {pool.name: pool for pool in site.pools}
    yield from _place(queues, pools, known["pools"], runs)
    yield from _run_fits(queues, runs)
    if runs.pool in pools:
        yield from _pool_holds(site, queues, pools[runs.pool])
        yield from _lent(site, queues, runs.pool)


def _teams(queues: BatchQueues) -> Iterator[Finding]:
    for index, team in enumerate(queues.teams):
        if team in queues.teams[:index]:
            yield Finding((*LOC, "teams", index), f"team {team!r} is there twice")


def _place(
    queues: BatchQueues, pools: dict[str, Pool], known: frozenset[str] | None, runs: FineTuning
) -> Iterator[Finding]:
    """Kueue runs in the cluster that it decides for."""
    if known is not None and queues.pool not in known:
        yield Finding((*LOC, "pool"), f"no pool named {queues.pool!r}{did_you_mean(queues.pool, known)}")
    here, there = pools.get(queues.pool), pools.get(runs.pool)
    if here and there and here.cluster != there.cluster:
        message = f"pool {here.name!r} is in cluster {here.cluster!r}, runs go to {there.cluster!r}"
        yield Finding((*LOC, "pool"), message)


def _run_fits(queues: BatchQueues, runs: FineTuning) -> Iterator[Finding]:
    """A run on CPU requests a quarter of one, whatever it may take (sitewright/tuning/template.py)."""
    wanted = {"cpus": runs.cpus if runs.gpus else 1, "memory": runs.memory, "gpus": runs.gpus}
    for resource, text in _TEXTS.items():
        there = getattr(queues.quota, resource) + getattr(queues.lend, resource)
        if wanted[resource] > there:
            message = (
                f"a run needs {text(wanted[resource])}, quota and lend are {text(there)}: none would start"
            )
            yield Finding((*LOC, "quota"), message)


def _pool_holds(site: Site, queues: BatchQueues, pool: Pool) -> Iterator[Finding]:
    """CPUs are left out: without a GPU, runs take what serving leaves over."""
    for resource in ("memory", "gpus"):
        text, models = _TEXTS[resource], _held(site, pool.name, resource)
        quota, there = getattr(queues.quota, resource), getattr(pool, resource) * len(present(pool))
        if quota and quota + models > there:
            message = f"runs {text(quota)} and models {text(models)}, pool {pool.name!r} has {text(there)}"
            yield Finding((*LOC, "quota"), message)


def _lent(site: Site, queues: BatchQueues, pool: str) -> Iterator[Finding]:
    for resource, text in _TEXTS.items():
        lent, held = getattr(queues.lend, resource), _held(site, pool, resource)
        if lent > held:
            yield Finding((*LOC, "lend"), f"{text(lent)}, the models of pool {pool!r} hold {text(held)}")


def _held(site: Site, pool: str, resource: str) -> int:
    return sum(
        model.replicas * getattr(model, resource) for model in site.services.models if model.pool == pool
    )
