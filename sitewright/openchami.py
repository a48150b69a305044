"""Declares the nodes of a pool to OpenCHAMI: SMD, BSS and the cloud-init server.

The order matters: BSS boots a node only once SMD knows the node, its BMC and
its interface, so components come first, then Redfish endpoints, then boot
parameters, then a refresh. Source: exchanges recorded from SMD 2.20.5, BSS
1.32 and cloud-init 1.4.5, replayed by tests/contracts/test_provisioner.py.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from sitewright.errors import SitewrightError

TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True)
class Services:
    """Base URLs as this machine reaches them, and a JWT where the site asks for one."""

    smd: str
    bss: str
    cloud_init: str
    token: str | None = None


@dataclass(frozen=True)
class Boot:
    """What a pool boots; `arguments` reach the kernel command line character for character."""

    kernel_url: str
    initrd_url: str
    arguments: Sequence[str]


class OpenChami:
    """One session with the three services.

    Raises: SitewrightError naming the service, the request and its answer.
    """

    def __init__(self, services: Services, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {services.token}"} if services.token else {}
        self._services = services
        self._http = httpx.Client(headers=headers, timeout=TIMEOUT_SECONDS, transport=transport)

    def declare(self, pool: str, nodes: Sequence[Mapping[str, Any]], boot: Boot) -> bool:
        """Make the services boot `nodes` (dicts of site.Node) into `boot`; True if anything changed."""
        changed = [
            self._components(nodes),
            self._redfish_endpoints(nodes),
            self._group(pool, [n["xname"] for n in nodes]),
            self._boot_parameters(nodes, boot),
        ]
        # BSS answers from a cache of SMD until it is told to look again.
        self._call("bss", "POST", "/boot/v1/hosts", {})
        return any(changed)

    def configure_group(self, pool: str, cluster: str, base_url: str, cloud_config: str) -> bool:
        """Give the nodes of group `pool` their cloud-config; `base_url` is where nodes reach the server."""
        self._call(
            "cloud_init",
            "POST",
            "/admin/cluster-defaults",
            {"cluster-name": cluster, "base-url": base_url, "cloud_provider": "openchami"},
        )
        body = {
            "name": pool,
            "description": f"nodes of pool {pool}",
            "file": {"content": base64.b64encode(cloud_config.encode()).decode(), "encoding": "base64"},
        }
        known = self._call("cloud_init", "GET", f"/admin/groups/{pool}", accept=(200, 404))
        if known.status_code == 404:
            self._call("cloud_init", "POST", "/admin/groups", body)
            return True
        if known.json().get("file", {}).get("content") == body["file"]["content"]:  # type: ignore[index]
            return False
        self._call("cloud_init", "PUT", f"/admin/groups/{pool}", body)
        return True

    def forget(self, pool: str, nodes: Sequence[Mapping[str, Any]]) -> None:
        """Undo `declare` and `configure_group`; what is already gone stays gone."""
        gone = (200, 204, 404)
        hosts = [n["xname"] for n in nodes]
        self._call("bss", "DELETE", "/boot/v1/bootparameters", {"hosts": hosts}, accept=(200, 400, 404))
        self._call("cloud_init", "DELETE", f"/admin/groups/{pool}", accept=gone)
        self._call("smd", "DELETE", f"/hsm/v2/groups/{pool}", accept=gone)
        for node in nodes:
            self._forget_endpoint(node)
            self._call("smd", "DELETE", f"/hsm/v2/State/Components/{node['xname']}", accept=gone)

    def _components(self, nodes: Sequence[Mapping[str, Any]]) -> bool:
        known = {
            c["ID"]: c for c in self._call("smd", "GET", "/hsm/v2/State/Components").json()["Components"]
        }
        wanted = [
            {
                "ID": n["xname"],
                "NID": n["nid"],
                "State": "Unknown",
                "Flag": "OK",
                "Enabled": True,
                "Role": "Compute",
                "Arch": "X86",
                "Class": "Mountain",
            }
            for n in nodes
        ]
        missing = [c for c in wanted if c["ID"] not in known or known[str(c["ID"])].get("NID") != c["NID"]]
        if missing:
            self._call("smd", "POST", "/hsm/v2/State/Components", {"Components": missing, "Force": False})
        return bool(missing)

    def _redfish_endpoints(self, nodes: Sequence[Mapping[str, Any]]) -> bool:
        known = {
            i["MACAddress"].lower(): i
            for i in self._call("smd", "GET", "/hsm/v2/Inventory/EthernetInterfaces").json()
        }
        changed = False
        for node in nodes:
            interface = known.get(node["mac"])
            addresses = [a["IPAddress"] for a in interface["IPAddresses"]] if interface else []
            if interface and interface["ComponentID"] == node["xname"] and node["address"] in addresses:
                continue
            self._forget_endpoint(node)
            self._call("smd", "POST", "/hsm/v2/Inventory/RedfishEndpoints", _redfish_endpoint(node))
            changed = True
        return changed

    def _forget_endpoint(self, node: Mapping[str, Any]) -> None:
        for path in (f"RedfishEndpoints/{node['bmc']}", f"EthernetInterfaces/{node['mac'].replace(':', '')}"):
            self._call("smd", "DELETE", f"/hsm/v2/Inventory/{path}", accept=(200, 204, 404))

    def _group(self, label: str, members: list[str]) -> bool:
        known = self._call("smd", "GET", f"/hsm/v2/groups/{label}", accept=(200, 404))
        if known.status_code == 404:
            body = {"label": label, "description": f"pool {label}", "members": {"ids": members}}
            self._call("smd", "POST", "/hsm/v2/groups", body)
            return True
        current = set(known.json()["members"]["ids"])
        for xname in sorted(set(members) - current):
            self._call("smd", "POST", f"/hsm/v2/groups/{label}/members", {"id": xname})
        for xname in sorted(current - set(members)):
            self._call("smd", "DELETE", f"/hsm/v2/groups/{label}/members/{xname}")
        return current != set(members)

    def _boot_parameters(self, nodes: Sequence[Mapping[str, Any]], boot: Boot) -> bool:
        hosts = [n["xname"] for n in nodes]
        wanted = {
            "kernel": boot.kernel_url,
            "initrd": boot.initrd_url,
            "params": " ".join(boot.arguments),
        }
        known = self._call("bss", "GET", "/boot/v1/bootparameters", accept=(200, 404))
        entries = (known.json() or []) if known.status_code == 200 else []
        current = {host: {k: e.get(k) for k in wanted} for e in entries for host in e.get("hosts") or []}
        if all(current.get(host) == wanted for host in hosts):
            return False
        self._call("bss", "PUT", "/boot/v1/bootparameters", {"hosts": hosts, **wanted})
        return True

    def _call(
        self, service: str, method: str, path: str, body: object = None, accept: tuple[int, ...] = ()
    ) -> httpx.Response:
        url = getattr(self._services, service) + path
        try:
            answer = self._http.request(method, url, json=body)
        except httpx.HTTPError as error:
            raise SitewrightError(
                f"{service}: {method} {url}: no answer ({error})",
                "Check that the service runs and try again.",
            ) from error
        if not (answer.is_success or answer.status_code in accept):
            raise SitewrightError(f"{service}: {method} {url}: {answer.status_code} {answer.text[:300]}")
        return answer


def _redfish_endpoint(node: Mapping[str, Any]) -> dict[str, Any]:
    system = "/redfish/v1/Systems/" + node["xname"]
    return {
        "ID": node["bmc"],
        "FQDN": node["bmc"],
        "IPAddress": node["bmc_address"],
        "MACAddr": node["bmc_mac"],
        "User": "",
        "Password": "",
        "RediscoverOnUpdate": False,
        "SchemaVersion": 1,
        "Managers": [],
        "Systems": [
            {
                "uri": system,
                "name": node["xname"],
                "actions": ["On", "ForceOff", "GracefulShutdown", "ForceRestart"],
                "ethernet_interfaces": [
                    {
                        "uri": system + "/EthernetInterfaces/1",
                        "mac": node["mac"],
                        "ip": node["address"],
                        "enabled": True,
                    }
                ],
            }
        ],
    }
