"""The address plan: every VM and node of a site, with its addresses, MAC addresses and numbers.

Deterministic: the same site file gives the same plan on every machine, and what a new pool adds comes behind
what is there. Nothing here refuses: what does not fit (a network too small, a missing network) is left out or
comes out as it comes, and `checks/addresses.py` says so.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sitewright.site.hostlist import HostlistError, expand
from sitewright.site.sections import HostOverride, Network, NodeOverride, PlaceOverride, Pool
from sitewright.site.xname import Xname, XnameError, XnameType

if TYPE_CHECKING:
    from sitewright.site.model import Site


@dataclass(frozen=True)
class Vm:
    """One virtual machine; sizes are bytes."""

    name: str
    group: str
    image: str
    network: str
    cpus: int
    memory: int
    disk: int
    address: str
    prefix_length: int
    gateway: str
    mac: str


@dataclass(frozen=True)
class Node:
    """One diskless node; memory is bytes, `bmc` the xname of its NodeBMC."""

    xname: str
    nid: int
    pool: str
    cluster: str
    network: str
    address: str
    prefix_length: int
    gateway: str
    mac: str
    bmc: str
    bmc_address: str
    bmc_mac: str
    cpus: int
    memory: int
    gpus: int
    labels: dict[str, str]
    taints: list[str]


def virtual_machines(site: "Site") -> list[Vm]:
    """The VMs in the order of the file; the n-th VM of a network has its address plus vm_offset plus n."""
    vms: list[Vm] = []
    used: dict[str, int] = {}
    for group in site.virtual_machines:
        network = find(site.networks, group.network)
        if network is None:
            continue
        for name in names(group.name):
            index = used[network.name] = used.get(network.name, -1) + 1
            override = group.overrides.get(name, PlaceOverride())
            if override.absent:
                continue
            vms.append(
                Vm(
                    name=name,
                    group=group.name,
                    image=group.image,
                    network=network.name,
                    cpus=group.cpus,
                    memory=group.memory,
                    disk=group.disk,
                    address=override.address or address_in(network, network.vm_offset + index),
                    prefix_length=prefix_length(network),
                    gateway=network.gateway,
                    mac=override.mac or derived_mac(site.name, name),
                )
            )
    return vms


def nodes(site: "Site") -> list[Node]:
    """The nodes in the order of the pools and their hostlists."""
    numbered: list[tuple[Pool, Xname, int]] = []
    following = 1
    for pool in site.pools:
        first = pool.first_nid or following
        for index, xname in enumerate(pool_xnames(pool)):
            override = pool.overrides.get(str(xname), NodeOverride())
            numbered.append((pool, xname, override.nid or first + index))
            following = first + index + 1
    first_of_bmc: dict[str, int] = {}
    for _, xname, nid in numbered:
        bmc = str(xname.bmc)
        first_of_bmc[bmc] = min(nid, first_of_bmc.get(bmc, nid))
    made = [
        _node(site, pool, xname, nid, first_of_bmc[str(xname.bmc)])
        for pool, xname, nid in numbered
        if not is_absent(pool.overrides, str(xname))
    ]
    return [node for node in made if node is not None]


def _node(site: "Site", pool: Pool, xname: Xname, nid: int, bmc_nid: int) -> Node | None:
    network, bmc_network = find(site.networks, pool.network), network_of_bmcs(site.networks, pool)
    if network is None or bmc_network is None or bmc_network.bmc_offset is None:
        return None
    bmc = str(xname.bmc)
    override = pool.overrides.get(str(xname), NodeOverride())
    bmc_override = site.bmc.overrides.get(bmc, HostOverride()) if site.bmc else HostOverride()
    return Node(
        xname=str(xname),
        nid=nid,
        pool=pool.name,
        cluster=pool.cluster,
        network=network.name,
        address=override.address or address_in(network, network.node_offset + nid - 1),
        prefix_length=prefix_length(network),
        gateway=network.gateway,
        mac=override.mac or derived_mac(site.name, str(xname)),
        bmc=bmc,
        bmc_address=bmc_override.address or address_in(bmc_network, bmc_network.bmc_offset + bmc_nid - 1),
        bmc_mac=bmc_override.mac or geographic_mac(site.name, xname.bmc),
        cpus=pool.cpus,
        memory=pool.memory,
        gpus=pool.gpus,
        labels=dict(pool.labels),
        taints=list(pool.taints),
    )


def pool_xnames(pool: Pool) -> list[Xname]:
    """The xnames of a pool, in the order of its hostlist; those that cannot be read are left out."""
    found = []
    for name in names(pool.nodes):
        try:
            found.append(Xname.parse(name, XnameType.NODE))
        except XnameError:
            continue
    return found


def network_of_bmcs(networks: Iterable[Network], pool: Pool) -> Network | None:
    """Where a pool's BMCs are: `bmc_network`, else the pool's network, else the only one with BMCs."""
    networks = list(networks)
    if pool.bmc_network is not None:
        return find(networks, pool.bmc_network)
    with_bmcs = [network for network in networks if network.bmc_offset is not None]
    own = find(with_bmcs, pool.network)
    if own is not None:
        return own
    return with_bmcs[0] if len(with_bmcs) == 1 else None


def find(networks: Iterable[Network], name: str) -> Network | None:
    return next((network for network in networks if network.name == name), None)


def prefix_length(network: Network) -> int:
    return ipaddress.ip_network(network.cidr).prefixlen


def address_in(network: Network, offset: int) -> str:
    """The network's address plus offset; may lie behind the end of the network."""
    return address_after(network.cidr, offset)


def address_after(cidr: str, offset: int) -> str:
    """The first address of the range plus offset; empty behind the last address there is."""
    try:
        return str(ipaddress.ip_network(cidr).network_address + offset)
    except ipaddress.AddressValueError:
        return ""


def derived_mac(environment: str, name: str) -> str:
    """A locally administered MAC address that only depends on the environment and the name."""
    digest = hashlib.sha256(f"{environment}/{name}".encode()).hexdigest()
    return ":".join(["02", *(digest[index : index + 2] for index in range(0, 10, 2))])


def geographic_mac(environment: str, bmc: Xname) -> str:
    """The MAC address an EX node controller gives itself from its place: x1000c0s0b0 → 02:03:e8:00:30:00.

    Source: the HPE Cray EX documentation of the Ethernet interfaces that MEDS makes. In a standard rack
    BMCs have makers' addresses, which only an override can know; until then one is derived.
    """
    numbers = dict(bmc.parts)
    if bmc.cabinet in range(1000, 3000) or bmc.cabinet >= 5000:
        place = (bmc.cabinet >> 8, bmc.cabinet & 0xFF, numbers["c"], 0x30 + numbers["s"], numbers["b"] << 4)
        return ":".join(["02", *(f"{byte:02x}" for byte in place)])
    return derived_mac(environment, str(bmc))


def present(pool: Pool) -> list[Xname]:
    """The nodes of a pool that are there."""
    return [xname for xname in pool_xnames(pool) if not is_absent(pool.overrides, str(xname))]


def is_absent(overrides: Mapping[str, PlaceOverride], name: str) -> bool:
    return name in overrides and overrides[name].absent


@lru_cache(maxsize=1024)
def names(hostlist: str) -> tuple[str, ...]:
    """The names of a hostlist; none of one that cannot be read."""
    try:
        return tuple(expand(hostlist))
    except HostlistError:
        return ()
