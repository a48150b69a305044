"""Names that must be defined somewhere else in the file."""

from collections.abc import Collection, Iterator

from sitewright.site.checks.finding import Finding, Known
from sitewright.site.model import Site
from sitewright.site.plan import is_absent, names, pool_xnames, present
from sitewright.site.problems import Loc, did_you_mean
from sitewright.site.sections import ServedModel
from sitewright.site.xname import Xname, XnameError, XnameType


def check(site: Site, known: Known) -> Iterator[Finding]:
    yield from _virtual_machines(site, known)
    yield from _control_planes(site, known)
    yield from _pools(site, known)
    yield from _models(site, known)
    yield from _fine_tuning(site, known)
    yield from _gateway(site, known)
    yield from _retrieval(site, known)
    yield from _bmc_overrides(site, known)


def _virtual_machines(site: Site, known: Known) -> Iterator[Finding]:
    for index, group in enumerate(site.virtual_machines):
        loc: Loc = ("virtual_machines", index)
        yield from _defined(known["images"], "image", group.image, (*loc, "image"))
        yield from _defined(known["networks"], "network", group.network, (*loc, "network"))
        for name in group.overrides:
            yield from _defined(names(group.name), "VM of this group", name, (*loc, "overrides", name))


def _control_planes(site: Site, known: Known) -> Iterator[Finding]:
    absent = {
        name
        for group in site.virtual_machines
        for name in group.overrides
        if is_absent(group.overrides, name)
    }
    for index, cluster in enumerate(site.clusters):
        for name in names(cluster.control_plane):
            if name in absent:
                yield Finding(("clusters", index, "control_plane"), f"VM {name!r} is `absent` in its group")
            yield from _defined(known["vms"], "VM", name, ("clusters", index, "control_plane"))


def _pools(site: Site, known: Known) -> Iterator[Finding]:
    for index, pool in enumerate(site.pools):
        loc: Loc = ("pools", index)
        yield from _defined(known["clusters"], "cluster", pool.cluster, (*loc, "cluster"))
        yield from _defined(known["networks"], "network", pool.network, (*loc, "network"))
        yield from _defined(known["boot_images"], "boot image", pool.boot_image, (*loc, "boot_image"))
        if pool.bmc_network is not None:
            yield from _defined(known["networks"], "network", pool.bmc_network, (*loc, "bmc_network"))
        members = [str(xname) for xname in pool_xnames(pool)]
        for name in pool.overrides:
            yield from _xname(name, XnameType.NODE, members, "node of this pool", (*loc, "overrides", name))
        if members and not present(pool):
            yield Finding(
                (*loc, "overrides"), "every node is `absent`; to give a pool up, take it out of `pools`"
            )


def _models(site: Site, known: Known) -> Iterator[Finding]:
    pools = {pool.name: pool for pool in site.pools}
    for index, model in enumerate(site.services.models):
        loc: Loc = ("services", "models", index)
        yield from _defined(known["clusters"], "cluster", model.cluster, (*loc, "cluster"))
        yield from _defined(known["pools"], "pool", model.pool, (*loc, "pool"))
        pool = pools.get(model.pool)
        clusters = known["clusters"] or ()
        if pool is None or not {pool.cluster, model.cluster} <= set(clusters):
            continue
        if pool.cluster != model.cluster:
            message = f"pool {pool.name!r} is in cluster {pool.cluster!r}, the model in {model.cluster!r}"
            yield Finding((*loc, "pool"), message)


def _fine_tuning(site: Site, known: Known) -> Iterator[Finding]:
    wanted = site.services.fine_tuning
    if wanted is None:
        return
    loc: Loc = ("services", "fine_tuning")
    yield from _defined(known["pools"], "pool", wanted.pool, (*loc, "pool"))
    models = {model.name: model for model in site.services.models}
    pool = next((pool for pool in site.pools if pool.name == wanted.pool), None)
    for index, name in enumerate(wanted.models):
        yield from _defined(models, "model", name, (*loc, "models", index))
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
    yield from _defined(known["clusters"], "cluster", wanted.cluster, (*loc, "cluster"))
    yield from _defined(known["pools"], "pool", wanted.pool, (*loc, "pool"))
    pool = next((pool for pool in site.pools if pool.name == wanted.pool), None)
    if pool is not None and pool.cluster != wanted.cluster and wanted.cluster in (known["clusters"] or ()):
        message = f"pool {pool.name!r} is in cluster {pool.cluster!r}, the gateway in {wanted.cluster!r}"
        yield Finding((*loc, "pool"), message)
    served = {model.name: model for model in site.services.models if model.cluster == wanted.cluster}
    for index, alias in enumerate(wanted.aliases):
        here: Loc = (*loc, "aliases", index)
        taken = {*served, *(before.name for before in wanted.aliases[:index])}
        if alias.name in taken:
            yield Finding((*here, "name"), f"{alias.name!r} is a model already; give the alias another name")
        for number, target in enumerate(alias.targets):
            there: Loc = (*here, "targets", number)
            yield from _defined(served, "model of this cluster", target.model, (*there, "model"))
            if target.adapter and target.model in served:
                yield from _serves_adapters(served[target.model], (*there, "adapter"))


def _retrieval(site: Site, known: Known) -> Iterator[Finding]:
    wanted, front = site.services.retrieval, site.services.gateway
    if wanted is None:
        return
    loc: Loc = ("services", "retrieval")
    yield from _defined(known["pools"], "pool", wanted.pool, (*loc, "pool"))
    if front is None:
        yield Finding(loc, "it is asked through the gateway only; add services.gateway")
        return
    pool = next((pool for pool in site.pools if pool.name == wanted.pool), None)
    if pool is not None and pool.cluster != front.cluster:
        message = f"pool {pool.name!r} is in cluster {pool.cluster!r}, the gateway in {front.cluster!r}"
        yield Finding((*loc, "pool"), message)
    served = [model.name for model in site.services.models if model.cluster == front.cluster]
    taken = {*served, *(alias.name for alias in front.aliases)}
    names: list[tuple[str, Loc]] = [(wanted.embeddings, (*loc, "embeddings"))]
    for index, collection in enumerate(wanted.collections):
        here: Loc = (*loc, "collections", index)
        yield from _defined(served, "model of the gateway's cluster", collection.model, (*here, "model"))
        names.append((collection.alias, (*here, "alias")))
    for name, place in names:
        if name in taken:
            yield Finding(place, f"{name!r} is a model already; give it another name")
        taken.add(name)


def _serves_adapters(model: ServedModel, loc: Loc) -> Iterator[Finding]:
    if not model.adapters:
        yield Finding(loc, f"model {model.name!r} serves no adapters; write `adapters: true` there")


def _bmc_overrides(site: Site, known: Known) -> Iterator[Finding]:
    if site.bmc is None or "pools" in known.dropped:
        return
    members = [str(xname.bmc) for pool in site.pools for xname in pool_xnames(pool)]
    for name in site.bmc.overrides:
        yield from _xname(name, XnameType.NODE_BMC, members, "BMC of this site", ("bmc", "overrides", name))


def _xname(name: str, kind: XnameType, members: list[str], what: str, loc: Loc) -> Iterator[Finding]:
    """A key that names a component: spelled as sitewright writes it, and one of the site."""
    try:
        xname = str(Xname.parse(name, kind))
    except XnameError as error:
        yield Finding(loc, error.message)
        return
    if xname != name:
        yield Finding(loc, f"write it {xname!r}")
    else:
        yield from _defined(members, what, name, loc)


def _defined(defined: Collection[str] | None, what: str, name: str, loc: Loc) -> Iterator[Finding]:
    if defined is not None and name not in defined:
        yield Finding(loc, f"no {what} named {name!r}{did_you_mean(name, defined)}")
