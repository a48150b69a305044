"""What pods ask for against what a diskless node has left for them, once it has booted."""

from collections.abc import Iterator

from sitewright.site.checks.finding import Finding
from sitewright.site.kubernetes_values import as_quantity
from sitewright.site.memory import MIB
from sitewright.site.model import Site
from sitewright.site.plan import present
from sitewright.site.problems import Loc
from sitewright.site.sections import Pool

Asked = tuple[str, Loc, int, int]
"""Who asks, where it says so, bytes per pod, pods."""


def check(site: Site) -> Iterator[Finding]:
    for index, pool in enumerate(site.pools):
        there = site.memory_budget(pool)
        if there.allocatable < 256 * MIB:
            message = f"{as_quantity(pool.memory)} leaves nothing for pods: {there.said()}"
            yield Finding(("pools", index, "memory"), message)
        elif present(pool):
            yield from _pods(pool, there.allocatable, there.said(), list(_asked(site, pool.name)))


def _pods(pool: Pool, room: int, said: str, asked: list[Asked]) -> Iterator[Finding]:
    """Each pod fits into a node, and all of them into the pool: one by one, the largest first, as a scheduler may."""
    for who, loc, size, _ in asked:
        if size > room:
            message = (
                f"{who} has {as_quantity(size)}, a node of pool {pool.name!r} has {_mib(room)} for pods "
                f"({as_quantity(pool.memory)} less {said})"
            )
            yield Finding(loc, message)
            return
    free = [room] * len(present(pool))
    for who, loc, size, count in sorted(asked, key=lambda one: -one[2]):
        for _ in range(count):
            free.sort()
            if size > free[-1]:
                total = ", ".join(
                    f"{name} {number} × {as_quantity(each)}" for name, _, each, number in asked if number
                )
                message = (
                    f"{who} with {as_quantity(size)} finds no node: {total} do not fit into {len(free)} nodes of pool "
                    f"{pool.name!r}, which have {_mib(room)} each for pods ({as_quantity(pool.memory)} less {said})"
                )
                yield Finding(loc, message)
                return
            free[-1] -= size


def _asked(site: Site, pool: str) -> Iterator[Asked]:
    services = site.services
    for index, model in enumerate(services.models):
        if model.pool == pool:
            loc: Loc = ("services", "models", index, "memory")
            yield f"model {model.name}", loc, model.memory, model.replicas * model.nodes
    if services.gateway and services.gateway.pool == pool:
        # One more, which is there while an update replaces the others.
        gateway = services.gateway
        yield "the gateway", ("services", "gateway", "memory"), gateway.memory, gateway.replicas + 1
    if services.retrieval and services.retrieval.pool == pool:
        retrieval = services.retrieval
        yield "retrieval", ("services", "retrieval", "memory"), retrieval.memory, retrieval.replicas
    if services.slo and services.slo.pool == pool:
        yield "Prometheus", ("services", "slo", "memory"), services.slo.memory, 1
    if services.fine_tuning and services.fine_tuning.pool == pool:
        # It may wait until others have ended, but not for a larger node.
        yield "a run", ("services", "fine_tuning", "memory"), services.fine_tuning.memory, 0


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f} MiB"
