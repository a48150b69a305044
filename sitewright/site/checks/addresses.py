"""The address plan: everything inside its network, nothing twice."""

import ipaddress
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from sitewright.site.checks.duplicates import and_more
from sitewright.site.checks.finding import Finding
from sitewright.site.model import Site
from sitewright.site.plan import find, network_of_bmcs
from sitewright.site.problems import Loc
from sitewright.site.sections import Network


@dataclass(frozen=True)
class Owner:
    """Who has an address; advice: what to change when it does not fit."""

    address: str
    who: str
    network: Network
    loc: Loc
    advice: str


def check(site: Site) -> Iterator[Finding]:
    """One finding per place in the file and kind of fault; thousands of nodes may share one cause."""
    outside: dict[Loc, list[str]] = {}
    twice: dict[Loc, list[str]] = {}
    taken: dict[tuple[str, str], Owner] = {}
    for owner in _owners(site):
        first = taken.setdefault((owner.network.name, owner.address), owner)
        if first.who != owner.who:
            message = f"{owner.who} and {first.who} would both have {owner.address}; {owner.advice}"
            twice.setdefault(owner.loc, []).append(message)
        low, high = _usable(owner.network.cidr)
        if not owner.address or not low <= int(ipaddress.ip_address(owner.address)) <= high:
            has = f"{owner.who} would have {owner.address or 'no address'}"
            message = f"{has}, which is not usable in {owner.network.cidr} of network {owner.network.name!r}"
            outside.setdefault(owner.loc, []).append(f"{message}; {owner.advice}")
    for faults in (outside, twice):
        for loc, messages in faults.items():
            yield Finding(loc, f"{messages[0]}{and_more(messages)}")
    yield from _published(site)
    yield from _reached(site)


@lru_cache(maxsize=64)
def _usable(cidr: str) -> tuple[int, int]:
    """First and last address of hosts, as numbers."""
    network = ipaddress.ip_network(cidr)
    return int(network.network_address) + 1, int(network.broadcast_address) - (network.version == 4)


def _owners(site: Site) -> Iterator[Owner]:
    """Who has an address; of two with the same one the later is asked to move."""
    for index, network in enumerate(site.networks):
        if ipaddress.ip_address(network.gateway) in ipaddress.ip_network(network.cidr):
            who, advice = f"the gateway of {network.name}", "choose another gateway"
            yield Owner(network.gateway, who, network, ("networks", index, "gateway"), advice)
    yield from _vms(site)
    yield from _nodes(site)
    yield from _virtual_addresses(site)


def _virtual_addresses(site: Site) -> Iterator[Owner]:
    for index, cluster in enumerate(site.clusters):
        address = cluster.virtual_address
        if address is None:
            continue
        for network in site.networks:
            if ipaddress.ip_address(address) in ipaddress.ip_network(network.cidr):
                loc: Loc = ("clusters", index, "virtual_address")
                yield Owner(address, f"cluster {cluster.name}", network, loc, "choose a free address")
                break


def _vms(site: Site) -> Iterator[Owner]:
    groups = {group.name: (index, group) for index, group in enumerate(site.virtual_machines)}
    for vm in site.vms:
        index, group = groups[vm.group]
        network = find(site.networks, vm.network)
        if network is None:
            continue
        override = group.overrides.get(vm.name)
        if override is not None and override.address:
            loc: Loc = ("virtual_machines", index, "overrides", vm.name, "address")
            yield Owner(vm.address, f"VM {vm.name}", network, loc, "choose a free address")
        else:
            advice = f"change vm_offset ({network.vm_offset}) or the range of the network"
            yield Owner(vm.address, f"VM {vm.name}", network, ("virtual_machines", index, "name"), advice)


def _nodes(site: Site) -> Iterator[Owner]:
    pools = {pool.name: (index, pool) for index, pool in enumerate(site.pools)}
    numbers = Counter(node.nid for node in site.nodes)
    for node in site.nodes:
        if numbers[node.nid] > 1:  # reported as such; that the addresses are the same follows from it
            continue
        index, pool = pools[node.pool]
        network, bmc_network = find(site.networks, node.network), network_of_bmcs(site.networks, pool)
        if network is None or bmc_network is None:
            continue
        override = pool.overrides.get(node.xname)
        bmc_override = site.bmc.overrides.get(node.bmc) if site.bmc else None
        planned: Loc = ("pools", index, "nodes")
        if override is not None and override.address:
            loc: Loc = ("pools", index, "overrides", node.xname, "address")
            yield Owner(node.address, node.xname, network, loc, "choose a free address")
        else:
            advice = f"change node_offset ({network.node_offset}), first_nid or the range of the network"
            yield Owner(node.address, node.xname, network, planned, advice)
        if bmc_override is not None and bmc_override.address:
            loc = ("bmc", "overrides", node.bmc, "address")
            yield Owner(node.bmc_address, f"BMC {node.bmc}", bmc_network, loc, "choose a free address")
        else:
            advice = f"change bmc_offset ({bmc_network.bmc_offset}), first_nid or the range of the network"
            yield Owner(node.bmc_address, f"BMC {node.bmc}", bmc_network, planned, advice)


def _published(site: Site) -> Iterator[Finding]:
    """A lab can only publish what lies in one of its networks."""
    networks = [ipaddress.ip_network(network.cidr) for network in site.networks]
    for index, published in enumerate(site.lab.publish if site.lab else ()):
        for position, target in enumerate(published.to):
            address = ipaddress.ip_address(target.rpartition(":")[0])
            if not any(address in network for network in networks):
                ranges = ", ".join(str(network) for network in networks)
                message = f"{address} lies in no network of this site ({ranges})"
                yield Finding(("lab", "publish", index, "to", position), message)


def _reached(site: Site) -> Iterator[Finding]:
    """What a lab does not publish, commands would ask at its own address, on the network of this machine."""
    if site.lab is None:
        return
    gateway = site.services.gateway
    wanted = {f"bmc-{node.bmc}": f"{node.bmc_address}:{site.bmc.port}" for node in site.nodes if site.bmc}
    wanted |= {"database": gateway.database.addresses[0]} if gateway and gateway.database else {}
    published = {target for one in site.lab.publish for target in one.to}
    if missing := [name for name, target in wanted.items() if target not in published]:
        example = f'{{name: {missing[0]}, to: ["{wanted[missing[0]]}"], port: …}}'
        yield Finding(("lab", "publish"), f"nothing leads to {', '.join(missing)}; add `{example}`")
