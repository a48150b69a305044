"""SMD's inventory: BMCs (RedfishEndpoints), what they manage (ComponentEndpoints), network interfaces.

A RedfishEndpoint posted with `SchemaVersion: 1` and its systems brings the nodes'
components, endpoints and interfaces with it, so that BSS boots them.

Source: SMD 2.20.5, `/hsm/v2/Inventory`; tests/data/contracts.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from lab.provisioner.answers import Problem, answer, text
from lab.provisioner.names import bare_mac, colon_mac, normal_xname, xname_type
from lab.provisioner.smd_components import change_component, deleted, matches, smd_body, upsert_component
from lab.provisioner.store import Document, Store

BMC = "smd-redfish-endpoint"
ENDPOINT = "smd-component-endpoint"
INTERFACE = "smd-interface"
BMC_CONFLICT = "operation would conflict with an existing resource that has the same FQDN or xname ID."
MAC_CONFLICT = (
    "operation would conflict with an existing component ethernet interface that has the same MAC address."
)


# RedfishEndpoints --------------------------------------------------------------------------------


def new_bmc(given: Mapping[str, Any]) -> Document:
    xname = normal_xname(str(given.get("ID", "")))
    if not xname_type(xname):
        raise Problem(400, f"couldn't validate endpoint data: xname ID '{given.get('ID', '')}' is invalid")
    fqdn = given.get("FQDN") or xname
    hostname, _, domain = fqdn.partition(".")
    return {
        "ID": xname,
        "Type": xname_type(xname),
        "Hostname": hostname,
        "Domain": domain,
        "FQDN": fqdn,
        "Enabled": given.get("Enabled", True),
        "User": given.get("User", ""),
        "Password": given.get("Password", ""),
        "MACAddr": given.get("MACAddr", ""),
        "IPAddress": given.get("IPAddress", ""),
        "RediscoverOnUpdate": given.get("RediscoverOnUpdate", False),
        "DiscoveryInfo": {"LastDiscoveryStatus": "NotYetQueried"},
    }


def system_endpoint(bmc: Document, xname: str, system: Mapping[str, Any]) -> Document:
    """The ComponentEndpoint of one system of a BMC: how its power is switched and which NICs it has."""
    uri = system.get("uri", "")
    reset = {
        "ResetType@Redfish.AllowableValues": system.get("actions") or [],
        "@Redfish.ActionInfo": f"{uri}/ResetActionInfo",
        "target": f"{uri}/Actions/ComputerSystem.Reset",
    }
    nics = [
        {
            "RedfishId": nic.get("uri", ""),
            "@odata.id": nic.get("uri", ""),
            "InterfaceEnabled": nic.get("enabled", False),
            "MACAddress": nic.get("mac", ""),
        }
        for nic in system.get("ethernet_interfaces") or []
    ]
    return {
        "ID": xname,
        "Type": "Node",
        "RedfishType": "ComputerSystem",
        "RedfishSubtype": "",
        "UUID": system.get("uuid", ""),
        "OdataID": uri,
        "RedfishEndpointID": bmc["ID"],
        "Enabled": True,
        "RedfishEndpointFQDN": bmc["FQDN"],
        "RedfishURL": f"{bmc['FQDN']}{uri}",
        "ComponentEndpointType": "ComponentEndpointComputerSystem",
        "RedfishSystemInfo": {
            "Name": system.get("name", ""),
            "Actions": {"#ComputerSystem.Reset": reset},
            "EthernetNICInfo": nics,
        },
    }


def store_systems(store: Store, bmc: Document, given: Mapping[str, Any]) -> bool:
    """Store what the BMC manages. False if an interface existed already: it is kept as it was."""
    clean = True
    for index, system in enumerate(given.get("Systems") or []):
        xname = f"{bmc['ID']}n{index}"
        store.put(ENDPOINT, xname, system_endpoint(bmc, xname, system))
        # Role and NID of a component that exists are kept; flag, arch and class are lost.
        component = {"ID": xname, "Type": "Node", "State": "On", "Enabled": True}
        upsert_component(store, component | {"Role": "Compute", "NID": index + 1}, force=True)
        clean &= _store_nics(store, xname, system)
    for manager in given.get("Managers") or []:
        clean &= _store_nics(store, bmc["ID"], manager)
    return clean


def _store_nics(store: Store, owner: str, device: Mapping[str, Any]) -> bool:
    clean = True
    for nic in device.get("ethernet_interfaces") or []:
        addresses = [{"IPAddress": nic["ip"]}] if nic.get("ip") else []
        interface = new_interface(
            {"MACAddress": nic.get("mac", ""), "ComponentID": owner, "IPAddresses": addresses}
        )
        if store.get(INTERFACE, interface["ID"]):
            clean = False
        else:
            store.put(INTERFACE, interface["ID"], interface)
    return clean


def remove_bmc(store: Store, xname: str) -> bool:
    """Forget a BMC and its endpoints; its nodes become Empty and keep their interfaces."""
    if not store.delete(BMC, xname):
        return False
    for endpoint in store.all(ENDPOINT):
        if endpoint["RedfishEndpointID"] == xname:
            store.delete(ENDPOINT, endpoint["ID"])
            change_component(store, endpoint["ID"], {"State": "Empty", "Flag": "OK"})
    return True


# EthernetInterfaces ------------------------------------------------------------------------------


def new_interface(given: Mapping[str, Any]) -> Document:
    mac = str(given.get("MACAddress", ""))
    if len(bare_mac(mac)) != 12:
        raise Problem(400, "MAC string has invalid length")
    owner = normal_xname(str(given.get("ComponentID") or ""))
    if owner and not xname_type(owner):
        raise Problem(400, f"xname ID '{owner}' is invalid")
    return {
        "ID": bare_mac(mac),
        "Description": given.get("Description") or "",
        "MACAddress": colon_mac(mac),
        "LastUpdate": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "ComponentID": owner,
        "Type": xname_type(owner),
        "IPAddresses": [_address(address) for address in given.get("IPAddresses") or []],
    }


def _address(given: Mapping[str, Any]) -> Document:
    network = given.get("Network")
    return {"IPAddress": given.get("IPAddress", "")} | ({"Network": network} if network else {})


def _interface_matches(interface: Document, query: list[tuple[str, str]]) -> bool:
    addresses = interface["IPAddresses"] or [{}]
    lower = [(key, colon_mac(value) if key.lower() == "macaddress" else value) for key, value in query]
    fields = ("MACAddress", "ComponentID", "Type", "IPAddress", "Network")
    return any(matches(interface | address, lower, fields) for address in addresses)


# Routes ------------------------------------------------------------------------------------------


def routes(store: Store) -> APIRouter:
    router = APIRouter(prefix="/hsm/v2/Inventory")
    _bmc_routes(router, store)
    _interface_routes(router, store)

    @router.get("/ComponentEndpoints")
    async def list_endpoints(request: Request) -> Response:
        query = [
            ("RedfishEndpointID" if k == "redfish_ep" else k, v)
            for k, v in request.query_params.multi_items()
        ]
        fields = ("ID", "Type", "RedfishEndpointID", "RedfishType")
        return answer({"ComponentEndpoints": [e for e in store.all(ENDPOINT) if matches(e, query, fields)]})

    @router.get("/ComponentEndpoints/{xname}")
    async def get_endpoint(xname: str) -> Response:
        endpoint = store.get(ENDPOINT, normal_xname(xname))
        if endpoint is None:
            raise Problem(404, "no such xname.")
        return answer(endpoint)

    return router


def _bmc_routes(router: APIRouter, store: Store) -> None:
    def stored(body: Mapping[str, Any], bmc: Document, status: int) -> Response:
        with store.transaction():
            store.put(BMC, bmc["ID"], bmc)
            clean = store_systems(store, bmc, body)
        uri = f"/hsm/v2/Inventory/RedfishEndpoints/{bmc['ID']}"
        if clean or status == 200:
            return answer([{"URI": uri}], status, location=uri)
        # Both answers one after the other, as the real service sends them: the endpoint is stored anyway.
        problem = Problem(409, MAC_CONFLICT).body()
        both = "".join(f"{json.dumps(part, separators=(',', ':'))}\n" for part in (problem, [{"URI": uri}]))
        return text(both, 409, "application/problem+json")

    @router.get("/RedfishEndpoints")
    async def list_bmcs(request: Request) -> Response:
        query = request.query_params.multi_items()
        fields = ("ID", "Type", "FQDN", "MACAddr", "IPAddress")
        return answer({"RedfishEndpoints": [bmc for bmc in store.all(BMC) if matches(bmc, query, fields)]})

    @router.post("/RedfishEndpoints")
    async def post_bmc(request: Request) -> Response:
        body = await smd_body(request)
        bmc = new_bmc(body)
        if store.get(BMC, bmc["ID"]) or store.has_fqdn(BMC, bmc["FQDN"]):
            raise Problem(409, BMC_CONFLICT)
        return stored(body, bmc, 201)

    @router.get("/RedfishEndpoints/{xname}")
    async def get_bmc(xname: str) -> Response:
        bmc = store.get(BMC, normal_xname(xname))
        if bmc is None:
            raise Problem(404, "no such xname.")
        return answer(bmc)

    @router.put("/RedfishEndpoints/{xname}")
    async def put_bmc(xname: str, request: Request) -> Response:
        if store.get(BMC, normal_xname(xname)) is None:
            raise Problem(404, "no such xname.")
        body = await smd_body(request)
        return stored(body, new_bmc(body | {"ID": xname}), 200)

    @router.delete("/RedfishEndpoints/{xname}")
    async def delete_bmc(xname: str) -> Response:
        with store.transaction():
            if not remove_bmc(store, normal_xname(xname)):
                raise Problem(404, "no such xname.")
        return deleted()


def _interface_routes(router: APIRouter, store: Store) -> None:
    def known(interface_id: str) -> Document:
        interface = store.get(INTERFACE, bare_mac(interface_id))
        if interface is None:
            raise Problem(404, f"No such component ethernet interface: {interface_id}")
        return interface

    @router.get("/EthernetInterfaces")
    async def list_interfaces(request: Request) -> Response:
        query = request.query_params.multi_items()
        return answer([found for found in store.all(INTERFACE) if _interface_matches(found, query)])

    @router.post("/EthernetInterfaces")
    async def post_interface(request: Request) -> Response:
        interface = new_interface(await smd_body(request))
        if store.get(INTERFACE, interface["ID"]):
            raise Problem(409, MAC_CONFLICT)
        store.put(INTERFACE, interface["ID"], interface)
        uri = f"/hsm/v2/Inventory/EthernetInterfaces/{interface['ID']}"
        return answer({"URI": uri}, 201, location=uri)

    @router.get("/EthernetInterfaces/{interface_id}")
    async def get_interface(interface_id: str) -> Response:
        return answer(known(interface_id))

    @router.patch("/EthernetInterfaces/{interface_id}")
    async def patch_interface(interface_id: str, request: Request) -> Response:
        interface = new_interface(known(interface_id) | await smd_body(request))
        store.put(INTERFACE, interface["ID"], interface)
        return answer(interface)

    @router.delete("/EthernetInterfaces/{interface_id}")
    async def delete_interface(interface_id: str) -> Response:
        if not store.delete(INTERFACE, bare_mac(interface_id)):
            raise Problem(404, "no such component ethernet interface.")
        return deleted()
