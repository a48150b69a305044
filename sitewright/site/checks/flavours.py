"""What a pool and its models say, against how nodes of the pool's flavour are built."""

from collections.abc import Iterator

from modules.inference.gpu_flavours import FLAVOURS, GB, OVERHEAD_PERCENT, Flavour
from sitewright.site.checks.finding import Finding
from sitewright.site.kubernetes_values import as_quantity
from sitewright.site.model import Site
from sitewright.site.problems import Loc
from sitewright.site.sections import Pool
from sitewright.site.service_sections import ServedModel


def check(site: Site) -> Iterator[Finding]:
    for number, pool in enumerate(site.pools):
        if pool.flavour is None:
            continue
        flavour = FLAVOURS[pool.flavour]
        if pool.gpus not in flavour.gpus:
            known = " or ".join(map(str, flavour.gpus))
            yield Finding(("pools", number, "gpus"), f"{pool.gpus}, and a node of {flavour.name} has {known}")
            continue
        for index, model in enumerate(site.services.models):
            if model.pool == pool.name:
                loc: Loc = ("services", "models", index)
                yield from _weights(pool, flavour, model, loc)
                yield from _share(pool, model, loc)
                yield from _cards(site, flavour, model)


def _weights(pool: Pool, flavour: Flavour, model: ServedModel, loc: Loc) -> Iterator[Finding]:
    """The GPUs of a replica hold its weights."""
    if model.weights is None or not model.gpus or model.gpus > pool.gpus:
        return  # there is nothing to be told, or it is told already
    needed, there = flavour.needed(model.weights), model.gpus * model.nodes
    if needed <= there:
        return
    split = flavour.tensor_parallel(model.weights)
    # A power of two: it has to divide the attention heads of the model.
    nodes = 1 << (-(-needed // pool.gpus) - 1).bit_length()
    more = f"gpus: {split}" if split and split <= pool.gpus else f"nodes: {nodes}, gpus: {pool.gpus}"
    message = (
        f"{model.weights / GB:g} GB and {OVERHEAD_PERCENT} % for activations need {needed} GPUs with "
        f"{flavour.hbm // GB} GB each, a replica has {there}; write {more}, or take smaller weights"
    )
    yield Finding((*loc, "weights"), message)


def _share(pool: Pool, model: ServedModel, loc: Loc) -> Iterator[Finding]:
    """Memory that belongs to the GPUs of a node in equal parts: who takes more leaves GPUs that nobody can use."""
    if not 0 < model.gpus < pool.gpus:
        return
    share = pool.memory * model.gpus // pool.gpus
    if share < model.memory <= pool.memory:
        message = (
            f"{as_quantity(model.memory)} for {model.gpus} of {pool.gpus} GPUs is more than their share of a node, "
            f"{as_quantity(share)}; other GPUs stay without memory"
        )
        yield Finding((*loc, "memory"), message, warning=True)


def _cards(site: Site, flavour: Flavour, model: ServedModel) -> Iterator[Finding]:
    fabric = site.services.fabric
    if model.nodes > 1 and fabric and flavour.cards is not None and fabric.cards > flavour.cards:
        message = f"{fabric.cards}, and a node of {flavour.name} has {flavour.cards}"
        yield Finding(("services", "fabric", "cards"), message)
