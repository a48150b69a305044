"""GPUs and CPUs that the models ask for against what the pools have; memory.py looks at memory."""

from collections.abc import Callable, Iterator

from sitewright.site.checks.finding import Finding
from sitewright.site.model import Site
from sitewright.site.plan import present
from sitewright.site.sections import Pool


def check(site: Site) -> Iterator[Finding]:
    for pool in site.pools:
        for resource, text in _RESOURCES.items():
            yield from _resource(site, pool, resource, text)


_RESOURCES: dict[str, Callable[[int], str]] = {
    "gpus": lambda count: f"{count} GPUs",
    "cpus": lambda count: f"{count} CPUs",
}


def _resource(site: Site, pool: Pool, resource: str, text: Callable[[int], str]) -> Iterator[Finding]:
    """One replica must fit into a node, and all replicas into the pool."""
    node = getattr(pool, resource)
    count = len(present(pool))
    if not count:
        return
    asked: list[str] = []
    total = 0
    for index, model in enumerate(site.services.models):
        if model.pool != pool.name:
            continue
        loc = ("services", "models", index, resource)
        replica = getattr(model, resource)
        if replica > node:
            yield Finding(loc, f"{text(replica)} per replica, a node of pool {pool.name!r} has {text(node)}")
            continue
        total += replica * model.nodes * model.replicas
        asked.append(f"{model.name} {model.nodes * model.replicas} × {text(replica)}")
        if total > node * count:
            message = f"{', '.join(asked)} are {text(total)}, pool {pool.name!r} has {text(node * count)}"
            yield Finding(loc, f"{message} in {count} nodes")
            return
