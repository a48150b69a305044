"""Redfish endpoints of SMD: the BMCs, the nodes each of them carries, and the nodes' interfaces.

One request for each BMC, since SMD 2.20.5 makes systems and interfaces of an endpoint only from a body of its own.
That body is the whole BMC: a node is numbered by its place in it, and one that is left out loses its system.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from sitewright.provisioning.openchami_http import GONE, Held, Http, folded, for_each

INVENTORY = "/hsm/v2/Inventory"
Node = Mapping[str, Any]  # a dict of site.Node


def declare(http: Http, nodes: Sequence[Node]) -> list[str]:
    """Make SMD know the BMCs and interfaces of the nodes; other nodes of these BMCs stay as they are.

    Returns: the nodes where something differed.
    Raises:  Held where a node with a lower number on the same BMC is not known yet.
    """
    bmcs, interfaces = _known(http)
    differing = [
        node
        for node in nodes
        if (node["bmc"], node["bmc"], node["bmc_address"]) not in bmcs
        or (node["mac"], node["xname"], node["address"]) not in interfaces
    ]
    by_bmc = {
        bmc: list(found)
        for bmc, found in groupby(
            sorted(nodes, key=lambda node: str(node["bmc"])), lambda node: str(node["bmc"])
        )
    }
    there = {bmc for bmc, _, _ in bmcs}, {mac for mac, _, _ in interfaces}
    wanted = {bmc: by_bmc[bmc] for bmc in sorted({str(node["bmc"]) for node in differing})}

    def write(given: list[Node]) -> None:
        of_bmc = _whole(given, interfaces)
        # An endpoint whose interfaces are known already is refused.
        if of_bmc[0]["bmc"] in there[0]:
            http.write("smd", "DELETE", f"{INVENTORY}/RedfishEndpoints/{of_bmc[0]['bmc']}", accept=GONE)
        for node in of_bmc:
            if node["mac"] in there[1]:
                forget_interface(http, node["mac"])
        http.write("smd", "POST", f"{INVENTORY}/RedfishEndpoints", endpoint(of_bmc))

    for_each("Redfish endpoints", wanted, write)
    return [node["xname"] for node in differing]


def forget(http: Http, nodes: Sequence[Node]) -> None:
    """A BMC that carries other nodes too stays."""
    leaving = {node["xname"] for node in nodes}
    found = http.call("smd", "GET", "/hsm/v2/State/Components").json()["Components"]
    staying = {one["ID"].rpartition("n")[0] for one in found if one["ID"] not in leaving}

    def remove(node: Node) -> None:
        if node["bmc"] not in staying:
            http.write("smd", "DELETE", f"{INVENTORY}/RedfishEndpoints/{node['bmc']}", accept=GONE)
        forget_interface(http, node["mac"])

    for_each("Redfish endpoints", {node["xname"]: node for node in nodes}, remove)


def owners(http: Http) -> dict[str, str]:
    """xname by MAC address."""
    found = http.call("smd", "GET", f"{INVENTORY}/EthernetInterfaces").json()
    return {interface["MACAddress"].lower(): interface["ComponentID"] for interface in found}


def facts(http: Http) -> dict[str, dict[str, str]]:
    """What SMD knows of each node's interface and BMC, by xname, in the words of site.Node."""
    bmcs = {
        bmc["ID"]: {"bmc_address": bmc["IPAddress"], "bmc_mac": bmc["MACAddr"].lower()}
        for bmc in http.call("smd", "GET", f"{INVENTORY}/RedfishEndpoints").json()["RedfishEndpoints"]
    }
    found = {}
    for interface in http.call("smd", "GET", f"{INVENTORY}/EthernetInterfaces").json():
        xname = interface["ComponentID"]
        bmc = xname.rpartition("n")[0]
        addresses = [address["IPAddress"] for address in interface["IPAddresses"]]
        if bmc in bmcs and addresses:
            mac = interface["MACAddress"].lower()
            found[xname] = {"mac": mac, "address": addresses[0], "bmc": bmc, **bmcs[bmc]}
    return found


def forget_others(http: Http, node: Node) -> list[str]:
    """Forget the interfaces that a node no longer has. Returns: their MAC addresses."""
    stale = [mac for mac, xname in owners(http).items() if xname == node["xname"] and mac != node["mac"]]
    for mac in stale:
        forget_interface(http, mac)
    return stale


def _whole(given: Sequence[Node], interfaces: set[tuple[str, str, str]]) -> list[Node]:
    """All nodes of the BMC of the given ones in the order of their numbers, those of other pools as SMD has them."""
    bmc = given[0]
    ours = {node["xname"] for node in given}
    others = {
        xname: {**bmc, "xname": xname, "mac": mac, "address": address}
        for mac, xname, address in sorted(interfaces)
        if xname.rpartition("n")[0] == bmc["bmc"] and xname not in ours
    }
    whole = sorted([*given, *others.values()], key=_number)
    missing = set(range(_number(whole[-1]))) - {_number(node) for node in whole}
    if missing:
        unknown = folded(f"{bmc['bmc']}n{number}" for number in missing)
        raise Held(
            f"{unknown}: not declared yet, and SMD numbers the "
            f"nodes of a BMC by their order, so {folded(ours)} would get the wrong name",
            "Declare the pool that has it first, or put these nodes into one pool; then run the same again.",
        )
    return whole


def _number(node: Node) -> int:
    return int(node["xname"].rpartition("n")[2])


def forget_interface(http: Http, mac: str) -> None:
    http.write("smd", "DELETE", f"{INVENTORY}/EthernetInterfaces/{mac.replace(':', '')}", accept=GONE)


def _known(http: Http) -> tuple[set[tuple[str, str, str]], set[tuple[str, str, str]]]:
    answer = http.call("smd", "GET", f"{INVENTORY}/RedfishEndpoints").json()
    bmcs = {(bmc["ID"], bmc["FQDN"], bmc["IPAddress"]) for bmc in answer["RedfishEndpoints"]}
    interfaces = {
        (interface["MACAddress"].lower(), interface["ComponentID"], address["IPAddress"])
        for interface in http.call("smd", "GET", f"{INVENTORY}/EthernetInterfaces").json()
        for address in interface["IPAddresses"]
    }
    return bmcs, interfaces


def endpoint(nodes: Sequence[Node]) -> dict[str, Any]:
    """Of the BMC that all these nodes share."""
    bmc = nodes[0]
    return {
        "ID": bmc["bmc"],
        "FQDN": bmc["bmc"],
        "IPAddress": bmc["bmc_address"],
        "MACAddr": bmc["bmc_mac"],
        "User": "",
        "Password": "",
        "RediscoverOnUpdate": False,
        "SchemaVersion": 1,
        "Managers": [],
        "Systems": [_system(node) for node in nodes],
    }


def _system(node: Node) -> dict[str, Any]:
    system = f"/redfish/v1/Systems/{node['xname']}"
    interface = {"uri": f"{system}/EthernetInterfaces/1", "mac": node["mac"], "ip": node["address"]}
    return {
        "uri": system,
        "name": node["xname"],
        "actions": ["On", "ForceOff", "GracefulShutdown", "ForceRestart"],
        "ethernet_interfaces": [{**interface, "enabled": True}],
    }
