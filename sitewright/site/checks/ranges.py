"""Ranges of addresses: none may overlap another one that the same machine must tell apart."""

import ipaddress
from collections.abc import Iterator

from sitewright.site.checks.finding import Finding
from sitewright.site.model import Cluster, Site
from sitewright.site.plan import names
from sitewright.site.problems import Loc, dotted
from sitewright.site.sections import Network

# kube-apiserver keeps a bit per service address and allows 20 bits of them.
_SERVICE_BITS = 20
# kubeadm and RKE2 give each node this much of pod_cidr.
_NODE_PREFIX = 24


def check(site: Site) -> Iterator[Finding]:
    yield from _networks(site)
    for index, cluster in enumerate(site.clusters):
        yield from _cluster(site, cluster, ("clusters", index))


def _networks(site: Site) -> Iterator[Finding]:
    for index, network in enumerate(site.networks):
        loc: Loc = ("networks", index)
        yield from _ipv4(network.cidr, (*loc, "cidr"))
        for other_index, other in enumerate(site.networks[:index]):
            yield from _apart(network.cidr, (*loc, "cidr"), other.cidr, ("networks", other_index, "cidr"))
        yield from _gateway(network, loc)
        yield from _vlan(site, network, index)


def _gateway(network: Network, loc: Loc) -> Iterator[Finding]:
    cidr = ipaddress.ip_network(network.cidr)
    if cidr.num_addresses < 8:
        yield Finding((*loc, "cidr"), f"{cidr} has {cidr.num_addresses} addresses; at least 8 are wanted")
    elif ipaddress.ip_address(network.gateway) not in cidr:
        yield Finding((*loc, "gateway"), f"{network.gateway} is outside of the network, {cidr}")


def _vlan(site: Site, network: Network, index: int) -> Iterator[Finding]:
    for other_index, other in enumerate(site.networks[:index]):
        if network.vlan is not None and network.vlan == other.vlan:
            message = f"VLAN {network.vlan} is also {dotted(('networks', other_index, 'vlan'))}"
            yield Finding(("networks", index, "vlan"), message)


def _cluster(site: Site, cluster: Cluster, loc: Loc) -> Iterator[Finding]:
    """Pods and services differ from each other and from all networks; other clusters may use the same."""
    pods, services = (*loc, "pod_cidr"), (*loc, "service_cidr")
    yield from _apart(cluster.service_cidr, services, cluster.pod_cidr, pods)
    for index, network in enumerate(site.networks):
        for key in ("pod_cidr", "service_cidr"):
            yield from _apart(getattr(cluster, key), (*loc, key), network.cidr, ("networks", index, "cidr"))
    yield from _ipv4(cluster.pod_cidr, pods)
    yield from _ipv4(cluster.service_cidr, services)
    yield from _sizes(site, cluster, loc)


def _apart(cidr: str, loc: Loc, other: str, other_loc: Loc) -> Iterator[Finding]:
    this, that = ipaddress.ip_network(cidr), ipaddress.ip_network(other)
    if this.version == that.version and this.overlaps(that):
        message = f"{this} overlaps {that} of {dotted(other_loc)}; choose ranges that share no address"
        yield Finding(loc, message)


def _ipv4(cidr: str, loc: Loc) -> Iterator[Finding]:
    """VMs, nodes and clusters are set up with IPv4 addresses only."""
    if ipaddress.ip_network(cidr).version != 4:
        yield Finding(loc, f"{cidr} is IPv6; networks and clusters are IPv4 so far")


def _sizes(site: Site, cluster: Cluster, loc: Loc) -> Iterator[Finding]:
    pods, services = ipaddress.ip_network(cluster.pod_cidr), ipaddress.ip_network(cluster.service_cidr)
    if pods.version != 4 or services.version != 4:  # reported as such
        return
    smallest = services.max_prefixlen - _SERVICE_BITS
    if services.prefixlen < smallest:
        yield Finding(
            (*loc, "service_cidr"), f"{services} is larger than Kubernetes allows; at most /{smallest}"
        )
    if services.num_addresses < 16:
        yield Finding(
            (*loc, "service_cidr"), f"{services} has {services.num_addresses} addresses; at least 16"
        )
    room = 2 ** (_NODE_PREFIX - pods.prefixlen) if pods.prefixlen <= _NODE_PREFIX else 0
    members = len(names(cluster.control_plane))
    members += sum(len(names(pool.nodes)) for pool in site.pools if pool.cluster == cluster.name)
    if members > room:
        wanted = _NODE_PREFIX - (members - 1).bit_length()
        message = (
            f"{pods} has room for {room} × /{_NODE_PREFIX}, the cluster has {members} nodes; use a /{wanted}"
        )
        yield Finding((*loc, "pod_cidr"), message)
