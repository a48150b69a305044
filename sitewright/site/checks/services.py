"""What models and the services around them name must be there, in the same cluster."""

from collections.abc import Iterable, Iterator

from sitewright.site.checks.finding import Finding, Known, defined
from sitewright.site.model import Site
from sitewright.site.problems import Loc
from sitewright.site.service_sections import Gateway, Router, ServedModel


def check(site: Site, known: Known) -> Iterator[Finding]:
    yield from _models(site, known)
    yield from _fine_tuning(site, known)
    yield from _gateway(site, known)
    yield from _retrieval(site, known)
    yield from _slo(site, known)


def _models(site: Site, known: Known) -> Iterator[Finding]:
    for index, model in enumerate(site.services.models):
        loc: Loc = ("services", "models", index)
        yield from _placed(site, known, "the model", model.cluster, model.pool, loc)
        if model.nodes > 1 and not model.gpus:
            yield Finding(
                (*loc, "nodes"), f"{model.nodes} nodes compute together on GPUs only, and gpus is 0"
            )
        if model.router is not None:
            yield from _router(site, known, model, model.router, (*loc, "router"))


def _router(site: Site, known: Known, model: ServedModel, router: Router, loc: Loc) -> Iterator[Finding]:
    if f"{model.name}-router" in {other.name for other in site.services.models}:
        yield Finding(loc, f"it is called {model.name}-router, as another model is; rename that one")
    if model.nodes > 1:
        yield Finding(loc, "a router asks every pod of a model, and of a group only the first answers")
    gateway = site.services.gateway
    if gateway is None or gateway.cluster != model.cluster:
        yield Finding(loc, "nobody could ask it: it answers to the gateway of its cluster alone")
    if router.pool is not None:
        yield from _in_cluster(site, known, "the model", model.cluster, router.pool, loc)


def _fine_tuning(site: Site, known: Known) -> Iterator[Finding]:
    wanted = site.services.fine_tuning
    if wanted is None:
        return
    loc: Loc = ("services", "fine_tuning")
    yield from defined(known["pools"], "pool", wanted.pool, (*loc, "pool"))
    models = {model.name: model for model in site.services.models}
    pool = next((pool for pool in site.pools if pool.name == wanted.pool), None)
    if pool is not None and wanted.gpus > pool.gpus:
        yield Finding(
            (*loc, "gpus"), f"a run is one pod, and a node of pool {pool.name!r} has {pool.gpus} GPUs"
        )
    for index, name in enumerate(wanted.models):
        yield from defined(models, "model", name, (*loc, "models", index))
        if name not in models or pool is None:
            continue
        if models[name].cluster != pool.cluster:
            message = f"model {name!r} is in cluster {models[name].cluster!r}, pool {pool.name!r} in {pool.cluster!r}"
            yield Finding((*loc, "models", index), message)
        yield from _serves_adapters(models[name], (*loc, "models", index))


def _gateway(site: Site, known: Known) -> Iterator[Finding]:
    wanted = site.services.gateway
    if wanted is None:
        return
    loc: Loc = ("services", "gateway")
    yield from _placed(site, known, "the gateway", wanted.cluster, wanted.pool, loc)
    served = {model.name: model for model in site.services.models if model.cluster == wanted.cluster}
    for index, alias in enumerate(wanted.aliases):
        here: Loc = (*loc, "aliases", index)
        taken = {*served, *(before.name for before in wanted.aliases[:index])}
        if alias.name in taken:
            yield Finding((*here, "name"), f"{alias.name!r} is a model already; give the alias another name")
        for number, target in enumerate(alias.targets):
            there: Loc = (*here, "targets", number)
            yield from defined(served, "model of this cluster", target.model, (*there, "model"))
            if target.adapter and target.model in served:
                yield from _serves_adapters(served[target.model], (*there, "adapter"))
    yield from _teams(site, wanted, served, (*loc, "teams"))


def _teams(site: Site, wanted: Gateway, served: Iterable[str], loc: Loc) -> Iterator[Finding]:
    lookup = site.services.retrieval
    found = [lookup.embeddings, *(one.alias for one in lookup.collections)] if lookup else []
    models = {*served, *(alias.name for alias in wanted.aliases), *found}
    for index, team in enumerate(wanted.teams):
        if team.name in [before.name for before in wanted.teams[:index]]:
            yield Finding((*loc, index), f"team {team.name!r} is there twice")
        if team.token_budget is not None and wanted.database is None:
            message = "what was used of it is kept in services.gateway.database, and there is none"
            yield Finding((*loc, index, "token_budget"), message)
        for place, model in enumerate(team.models or ()):
            yield from defined(models, "model behind the gateway", model, (*loc, index, "models", place))


def _retrieval(site: Site, known: Known) -> Iterator[Finding]:
    wanted, front = site.services.retrieval, site.services.gateway
    if wanted is None:
        return
    loc: Loc = ("services", "retrieval")
    if front is None:
        yield from defined(known["pools"], "pool", wanted.pool, (*loc, "pool"))
        yield Finding(loc, "it is asked through the gateway only; add services.gateway")
        return
    yield from _in_cluster(site, known, "the gateway", front.cluster, wanted.pool, loc)
    served = [model.name for model in site.services.models if model.cluster == front.cluster]
    taken = {*served, *(alias.name for alias in front.aliases)}
    names: list[tuple[str, Loc]] = [(wanted.embeddings, (*loc, "embeddings"))]
    for index, collection in enumerate(wanted.collections):
        here: Loc = (*loc, "collections", index)
        yield from defined(served, "model of the gateway's cluster", collection.model, (*here, "model"))
        names.append((collection.alias, (*here, "alias")))
    for name, place in names:
        if name in taken:
            yield Finding(place, f"{name!r} is a model already; give it another name")
        taken.add(name)


def _slo(site: Site, known: Known) -> Iterator[Finding]:
    wanted = site.services.slo
    if wanted is None:
        return
    loc: Loc = ("services", "slo")
    yield from _placed(site, known, "Prometheus", wanted.cluster, wanted.pool, loc)
    served = [model.name for model in site.services.models if model.cluster == wanted.cluster]
    if not served:
        yield Finding(loc, f"cluster {wanted.cluster!r} serves no model, so there is nothing to watch")
    for index, objective in enumerate(wanted.objectives):
        here: Loc = (*loc, "objectives", index, "model")
        yield from defined(served, "model of this cluster", objective.model, here)
        if objective.model in [one.model for one in wanted.objectives[:index]]:
            yield Finding(here, f"{objective.model!r} has an objective already")


def _placed(site: Site, known: Known, what: str, cluster: str, pool: str, loc: Loc) -> Iterator[Finding]:
    yield from defined(known["clusters"], "cluster", cluster, (*loc, "cluster"))
    yield from _in_cluster(site, known, what, cluster, pool, loc)


def _in_cluster(site: Site, known: Known, what: str, cluster: str, name: str, loc: Loc) -> Iterator[Finding]:
    """The pool is there, and in the cluster that what runs on it is in."""
    yield from defined(known["pools"], "pool", name, (*loc, "pool"))
    pool = next((pool for pool in site.pools if pool.name == name), None)
    if (
        pool is not None
        and pool.cluster != cluster
        and {pool.cluster, cluster} <= set(known["clusters"] or ())
    ):
        message = f"pool {pool.name!r} is in cluster {pool.cluster!r}, {what} in {cluster!r}"
        yield Finding((*loc, "pool"), message)


def _serves_adapters(model: ServedModel, loc: Loc) -> Iterator[Finding]:
    if not model.adapters:
        yield Finding(loc, f"model {model.name!r} serves no adapters; write `adapters: true` there")
