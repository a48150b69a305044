"""Control planes: how many VMs, which ones, and the address in front of them."""

import ipaddress
from collections.abc import Iterator

from sitewright.site.checks.finding import Finding
from sitewright.site.kubernetes_values import as_quantity
from sitewright.site.model import Cluster, Site
from sitewright.site.plan import find, names
from sitewright.site.problems import Loc
from sitewright.site.sections import VirtualMachineGroup

# What kubeadm's own preflight asks of a control plane.
_CPUS, _MEMORY = 2, 1700 * 10**6


def check(site: Site) -> Iterator[Finding]:
    owner: dict[str, str] = {}
    for index, cluster in enumerate(site.clusters):
        loc: Loc = ("clusters", index)
        yield from _size(cluster, loc)
        yield from _virtual_address(site, cluster, loc)
        for name in names(cluster.control_plane):
            other = owner.setdefault(name, cluster.name)
            if other != cluster.name:
                yield Finding(
                    (*loc, "control_plane"), f"VM {name!r} is the control plane of cluster {other!r} already"
                )
    yield from _machines(site)


def _size(cluster: Cluster, loc: Loc) -> Iterator[Finding]:
    count = len(names(cluster.control_plane))
    if count not in (1, 3):
        why = "; with 2 the loss of either stops the cluster" if count == 2 else ""
        message = f"{cluster.control_plane!r} is {count} VMs; a control plane has 1 or 3{why}"
        yield Finding((*loc, "control_plane"), message)
    if count > 1 and cluster.virtual_address is None:
        message = f"REQUIRED with {count} control planes: a free address of their network"
        yield Finding((*loc, "virtual_address"), message)


def _virtual_address(site: Site, cluster: Cluster, loc: Loc) -> Iterator[Finding]:
    networks = list(dict.fromkeys(group.network for group in _groups(site, cluster)))
    if len(networks) > 1 and cluster.virtual_address is not None:
        message = (
            f"the VMs are in networks {', '.join(networks)}; one virtual address needs them in one network"
        )
        yield Finding((*loc, "control_plane"), message)
    network = find(site.networks, networks[0]) if len(networks) == 1 else None
    if network is None or cluster.virtual_address is None:
        return
    if ipaddress.ip_address(cluster.virtual_address) not in ipaddress.ip_network(network.cidr):
        message = (
            f"{cluster.virtual_address} is outside of {network.cidr}, the network {network.name!r} of its VMs"
        )
        yield Finding((*loc, "virtual_address"), message)


def _groups(site: Site, cluster: Cluster) -> list[VirtualMachineGroup]:
    wanted = set(names(cluster.control_plane))
    return [group for group in site.virtual_machines if wanted & set(names(group.name))]


def _machines(site: Site) -> Iterator[Finding]:
    """The VMs of a control plane must be large enough for one."""
    wanted = {name for cluster in site.clusters for name in names(cluster.control_plane)}
    for index, group in enumerate(site.virtual_machines):
        if not wanted & set(names(group.name)):
            continue
        if group.cpus < _CPUS:
            yield Finding(
                ("virtual_machines", index, "cpus"), f"{group.cpus}; a control plane needs at least {_CPUS}"
            )
        if group.memory < _MEMORY:
            message = (
                f"{as_quantity(group.memory)}; a control plane needs at least 1700M, 2Gi is a good start"
            )
            yield Finding(("virtual_machines", index, "memory"), message)
