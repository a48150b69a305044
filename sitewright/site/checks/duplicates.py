"""Things that may be there only once: names, xnames, numbers, MAC addresses, ports."""

from collections.abc import Iterable, Iterator, Mapping

from sitewright.site.checks.finding import Finding
from sitewright.site.model import Site
from sitewright.site.plan import is_absent, names
from sitewright.site.problems import Loc, dotted
from sitewright.site.sections import HostOverride
from sitewright.site.service_sections import Gateway, ServedModel, Slo
from sitewright.site.xname import Xname


def check(site: Site) -> Iterator[Finding]:
    yield from _names(site)
    yield from _hosts(site)
    yield from _ports(site)
    yield from _image_servers(site)
    yield from _nids(site)
    yield from _macs(site)


def _names(site: Site) -> Iterator[Finding]:
    lists: dict[tuple[str, ...], Iterable[str]] = {
        ("networks",): [network.name for network in site.networks],
        ("hypervisor", "images"): [image.name for image in site.hypervisor.images] if site.hypervisor else [],
        ("clusters",): [cluster.name for cluster in site.clusters],
        ("boot_images",): [image.name for image in site.boot_images],
        ("pools",): [pool.name for pool in site.pools],
        ("services", "models"): [model.name for model in site.services.models],
        ("services", "retrieval", "collections"): (
            [one.name for one in site.services.retrieval.collections] if site.services.retrieval else []
        ),
        ("lab", "publish"): [published.name for published in site.lab.publish] if site.lab else [],
    }
    for where, found in lists.items():
        yield from _once((name, (*where, index, "name"), name) for index, name in enumerate(found))


def _hosts(site: Site) -> Iterator[Finding]:
    """VM names and xnames over all groups and pools; the spelling of the file may differ, the node is one."""
    hosts: list[tuple[str, Loc, str]] = []
    for index, group in enumerate(site.virtual_machines):
        hosts += [
            (name, ("virtual_machines", index, "name"), name)
            for name in names(group.name)
            if not is_absent(group.overrides, name)
        ]
    for index, pool in enumerate(site.pools):
        xnames = ((str(Xname.parse(name)), name) for name in names(pool.nodes))
        hosts += [
            (xname, ("pools", index, "nodes"), name)
            for xname, name in xnames
            if not is_absent(pool.overrides, xname)
        ]
    yield from _once(hosts)


def _ports(site: Site) -> Iterator[Finding]:
    if site.lab:
        publish = enumerate(site.lab.publish)
        yield from _once(
            (f"port {item.port}", ("lab", "publish", index, "port"), "") for index, item in publish
        )
    services: list[tuple[Loc, ServedModel | Gateway | Slo]] = [
        (("services", "models", index), model) for index, model in enumerate(site.services.models)
    ]
    if site.services.gateway is not None:
        services.append((("services", "gateway"), site.services.gateway))
    if site.services.slo is not None:
        services.append((("services", "slo"), site.services.slo))
    for cluster in dict.fromkeys(service.cluster for _, service in services):
        yield from _once(
            (f"port {service.node_port}", (*loc, "node_port"), "")
            for loc, service in services
            if service.cluster == cluster and service.node_port is not None
        )


def _image_servers(site: Site) -> Iterator[Finding]:
    if site.image_server is not None:
        urls: list[tuple[Loc, str]] = [(("image_server", "url"), site.image_server.url)]
        mirrors = enumerate(site.image_server.mirrors)
        urls += [(("image_server", "mirrors", index), mirror) for index, mirror in mirrors]
        yield from _once((url, loc, url) for loc, url in urls)


def _once(things: Iterable[tuple[str, Loc, str]]) -> Iterator[Finding]:
    """things: what, where, in which spelling; one finding per place that repeats what another one has."""
    first: dict[str, tuple[Loc, str]] = {}
    repeated: dict[tuple[Loc, Loc], list[str]] = {}
    for what, loc, who in things:
        if what not in first:
            first[what] = (loc, who)
            continue
        known_loc, known_as = first[what]
        spelling = f" (as {who!r} and {known_as!r})" if who != known_as else ""
        repeated.setdefault((loc, known_loc), []).append(f"{what}{spelling}")
    for (loc, known_loc), whats in repeated.items():
        where = "is in it twice" if loc == known_loc else f"is also in {dotted(known_loc)}"
        yield Finding(loc, f"{whats[0]} {where}{and_more(whats)}")


def _nids(site: Site) -> Iterator[Finding]:
    places = {pool.name: index for index, pool in enumerate(site.pools)}
    owner: dict[int, str] = {}
    clashes: dict[Loc, list[str]] = {}
    for node in site.nodes:
        other = owner.setdefault(node.nid, node.xname)
        if other != node.xname:
            index = places[node.pool]
            override = site.pools[index].overrides.get(node.xname)
            own = override is not None and override.nid is not None
            pool: Loc = ("pools", index)
            loc: Loc = (*pool, "overrides", node.xname, "nid") if own else (*pool, "first_nid")
            clashes.setdefault(loc, []).append(f"{node.nid} is the NID of {other} and of {node.xname}")
    for loc, messages in clashes.items():
        advice = "choose a free one" if loc[-1] == "nid" else "give the pool a first_nid behind the others"
        yield Finding(loc, f"{messages[0]}{and_more(messages)}; {advice}")


def _macs(site: Site) -> Iterator[Finding]:
    """One finding per MAC address, naming all who have it."""
    owners: dict[str, dict[str, None]] = {}
    for name, mac in _mac_owners(site):
        owners.setdefault(mac, {})[name] = None
    written = _written_macs(site)
    for mac, having in owners.items():
        if len(having) > 1:
            # Of a written and a derived address the written one is at fault.
            places = [written[name] for name in having if name in written] or [("pools",)]
            yield Finding(
                places[min(1, len(places) - 1)],
                f"{mac} is the MAC address of {', '.join(having)}; each card has its own",
            )


def _mac_owners(site: Site) -> Iterator[tuple[str, str]]:
    yield from ((vm.name, vm.mac) for vm in site.vms)
    yield from ((node.xname, node.mac) for node in site.nodes)
    yield from ((node.bmc, node.bmc_mac) for node in site.nodes)


def _written_macs(site: Site) -> dict[str, Loc]:
    """Host → where the file gives it a MAC address."""
    overrides: list[tuple[Loc, Mapping[str, HostOverride]]] = [
        (("virtual_machines", index), group.overrides) for index, group in enumerate(site.virtual_machines)
    ]
    overrides += [(("pools", index), pool.overrides) for index, pool in enumerate(site.pools)]
    overrides += [(("bmc",), site.bmc.overrides)] if site.bmc else []
    return {
        name: (*loc, "overrides", name, "mac")
        for loc, given in overrides
        for name, override in given.items()
        if override.mac is not None
    }


def and_more(things: list[str]) -> str:
    return f"; and {len(things) - 1} more" if len(things) > 1 else ""
