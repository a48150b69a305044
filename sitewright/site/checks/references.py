"""Names that must be defined somewhere else in the file."""

from collections.abc import Iterator

from sitewright.site.checks.finding import Finding, Known, defined
from sitewright.site.model import Site
from sitewright.site.plan import is_absent, names, pool_xnames, present
from sitewright.site.problems import Loc
from sitewright.site.xname import Xname, XnameError, XnameType


def check(site: Site, known: Known) -> Iterator[Finding]:
    yield from _virtual_machines(site, known)
    yield from _control_planes(site, known)
    yield from _pools(site, known)
    yield from _bmc_overrides(site, known)
    yield from _emulated_nodes(site, known)


def _virtual_machines(site: Site, known: Known) -> Iterator[Finding]:
    for index, group in enumerate(site.virtual_machines):
        loc: Loc = ("virtual_machines", index)
        yield from defined(known["images"], "image", group.image, (*loc, "image"))
        yield from defined(known["networks"], "network", group.network, (*loc, "network"))
        for name in group.overrides:
            yield from defined(names(group.name), "VM of this group", name, (*loc, "overrides", name))


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
            yield from defined(known["vms"], "VM", name, ("clusters", index, "control_plane"))


def _pools(site: Site, known: Known) -> Iterator[Finding]:
    for index, pool in enumerate(site.pools):
        loc: Loc = ("pools", index)
        yield from defined(known["clusters"], "cluster", pool.cluster, (*loc, "cluster"))
        yield from defined(known["networks"], "network", pool.network, (*loc, "network"))
        yield from defined(known["boot_images"], "boot image", pool.boot_image, (*loc, "boot_image"))
        if pool.bmc_network is not None:
            yield from defined(known["networks"], "network", pool.bmc_network, (*loc, "bmc_network"))
        members = [str(xname) for xname in pool_xnames(pool)]
        for name in pool.overrides:
            yield from _xname(name, XnameType.NODE, members, "node of this pool", (*loc, "overrides", name))
        if members and not present(pool):
            yield Finding(
                (*loc, "overrides"), "every node is `absent`; to give a pool up, take it out of `pools`"
            )


def _bmc_overrides(site: Site, known: Known) -> Iterator[Finding]:
    if site.bmc is None or "pools" in known.dropped:
        return
    members = [str(xname.bmc) for pool in site.pools for xname in pool_xnames(pool)]
    for name in site.bmc.overrides:
        yield from _xname(name, XnameType.NODE_BMC, members, "BMC of this site", ("bmc", "overrides", name))


def _emulated_nodes(site: Site, known: Known) -> Iterator[Finding]:
    if site.lab is None or site.lab.qemu_nodes is None or "pools" in known.dropped:
        return
    members = [str(xname) for pool in site.pools for xname in present(pool)]
    for name in names(site.lab.qemu_nodes):
        yield from _xname(name, XnameType.NODE, members, "node of this site", ("lab", "qemu_nodes"))


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
        yield from defined(members, what, name, loc)
