"""Declares the nodes of a pool to OpenCHAMI: SMD, BSS and the cloud-init server.

The order matters: BSS boots a node only once SMD knows the node, its BMC and
its interface, so components come first, then Redfish endpoints, then boot
parameters, then a refresh. Source: exchanges recorded from SMD 2.20.5, BSS
1.32 and cloud-init 1.4.5, replayed by tests/contracts/test_provisioner.py.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from sitewright.errors import SitewrightError
from sitewright.provisioning import openchami_endpoints as endpoints
from sitewright.provisioning.openchami_http import Http, Services, folded

EXCLUSIVE = "sitewright-pool"
"""SMD's `exclusiveGroup` of the groups of all pools."""


@dataclass(frozen=True)
class Boot:
    """What a pool boots; `arguments` reach the kernel command line character for character."""

    kernel_url: str
    initrd_url: str
    arguments: Sequence[str]


@dataclass(frozen=True)
class Pool:
    """Nodes (dicts of site.Node) that boot the same. name: that of its groups in SMD and the cloud-init server."""

    name: str
    cluster: str
    nodes: Sequence[Mapping[str, Any]]
    boot: Boot
    cloud_config: str

    @property
    def xnames(self) -> list[str]:
        return [node["xname"] for node in self.nodes]

    @property
    def group(self) -> dict[str, str]:
        """Its group in SMD without the members. A node is in one pool at most, and SMD sees to it."""
        description = f"pool {self.name} of cluster {self.cluster}"
        return {"label": self.name, "description": description, "exclusiveGroup": EXCLUSIVE}


@dataclass(frozen=True)
class Known:
    """A node as the services know it. state: SMD's; pool: "" for none; kernel: the URL it boots, "" for none."""

    state: str
    pool: str
    kernel: str


class OpenChami:
    """One session with the three services.

    check:  only ask: what would be written is left out, what differs is told all the same.
    Raises: SitewrightError naming the service, the request and its answer.
    """

    def __init__(
        self, services: Services, check: bool = False, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._http = Http(services, check, transport)

    def set_defaults(self, base_url: str) -> list[str]:
        """Tell the cloud-init server what holds for all nodes; `base_url` is where they reach it.

        Returns: what differed.
        """
        wanted = {"base-url": base_url, "cloud_provider": "openchami"}
        known = self._http.call("cloud_init", "GET", "/admin/cluster-defaults").json()
        differ = [key for key, value in wanted.items() if known.get(key) != value]
        if differ:
            self._http.write("cloud_init", "POST", "/admin/cluster-defaults", wanted)
        return [f"{key} of the cloud-init server" for key in differ]

    def declare(self, pool: Pool) -> list[str]:
        """Make the services boot the nodes of a pool, and tell them who they are.

        Returns: what differed, by kind, with the nodes: `boot parameters of x1000c0s[0-1]b0n0`.
        Raises:  SitewrightError where another pool still has one of the nodes.
        """
        self._require_free(pool)
        differences = [
            # First, because a node that boots early must find it.
            *self._configuration(pool),
            *_differing("components", self._components(pool.nodes)),
            *_differing("Redfish endpoints", endpoints.declare(self._http, pool.nodes)),
            *_differing(f"group {pool.name}", self._group(pool)),
            *_differing("boot parameters", self._boot_parameters(pool.xnames, pool.boot)),
        ]
        self._look_again()
        return differences

    def set_boot(self, xnames: Sequence[str], boot: Boot) -> list[str]:
        """Make nodes that are declared boot something else from now on. Returns: those that did not yet."""
        if differing := self._boot_parameters(list(xnames), boot):
            self._look_again()
        return differing

    def interfaces(self) -> dict[str, str]:
        """The xname of each MAC address that SMD knows."""
        return endpoints.owners(self._http)

    def readdress(self, of_bmc: Sequence[Mapping[str, Any]], xname: str) -> list[str]:
        """Have SMD know a node by its MAC address only. of_bmc: all nodes of its BMC. Returns: what differed."""
        [node] = [one for one in of_bmc if one["xname"] == xname]
        stale = endpoints.forget_others(self._http, node)
        differing = _differing("Redfish endpoints", endpoints.declare(self._http, of_bmc))
        if stale or differing:
            self._look_again()
        return [*(f"MAC address {mac} of {xname}" for mac in stale), *differing]

    def forget(self, pool: str, nodes: Sequence[Mapping[str, Any]]) -> None:
        """Undo `declare` for some nodes of a pool, or all; what is already gone stays gone.

        A node's component is last: with it SMD takes the node out of the pool, and another may have it.
        """
        gone = (200, 204, 404)
        hosts = [n["xname"] for n in nodes]
        self._http.write("bss", "DELETE", "/boot/v1/bootparameters", {"hosts": hosts}, accept=(200, 400, 404))
        endpoints.forget(self._http, nodes)
        for node in nodes:
            self._http.write("smd", "DELETE", f"/hsm/v2/State/Components/{node['xname']}", accept=gone)
        if not self._members(pool):
            self._http.write("cloud_init", "DELETE", f"/admin/groups/{pool}", accept=gone)
            self._http.write("smd", "DELETE", f"/hsm/v2/groups/{pool}", accept=gone)

    def known(self) -> dict[str, Known]:
        """All nodes that the services know, by xname, in three requests however many there are."""
        components = self._http.call("smd", "GET", "/hsm/v2/State/Components?type=Node").json()["Components"]
        pools = {
            xname: group["label"]
            for group in self._http.call("smd", "GET", "/hsm/v2/groups").json()
            if group.get("exclusiveGroup") == EXCLUSIVE
            for xname in group["members"]["ids"]
        }
        kernels = self._boot_entries()
        return {
            one["ID"]: Known(
                one["State"], pools.get(one["ID"], ""), str(kernels.get(one["ID"], {}).get("kernel") or "")
            )
            for one in components
        }

    def _look_again(self) -> None:
        """BSS answers from a cache of SMD until it is told to look again."""
        self._http.write("bss", "POST", "/boot/v1/hosts", {})

    def _require_free(self, pool: Pool) -> None:
        for group in self._http.call("smd", "GET", "/hsm/v2/groups").json():
            if group.get("exclusiveGroup") != EXCLUSIVE or pool.group.items() <= group.items():
                continue
            if held := set(group["members"]["ids"]) & set(pool.xnames):
                raise SitewrightError(
                    f"{folded(held)}: still in {group['description']}",
                    "It is free once it was released there. If it did not become so by itself, make it two updates: "
                    "take it out of its pool in the first, put it into the other in the second.",
                )

    def _configuration(self, pool: Pool) -> list[str]:
        """The pool's group on the cloud-init server: its meta-data and its cloud-config."""
        content = base64.b64encode(pool.cloud_config.encode()).decode()
        body = {
            "name": pool.name,
            "description": f"nodes of pool {pool.name}",
            "meta-data": {"cluster-name": pool.cluster},
            "file": {"content": content, "encoding": "base64"},
        }
        path = f"/admin/groups/{pool.name}"
        answer = self._http.call("cloud_init", "GET", path, accept=(200, 404))
        if answer.status_code == 404:
            self._http.write("cloud_init", "POST", "/admin/groups", body)
        else:
            known = answer.json()
            if known.get("meta-data") == body["meta-data"] and known["file"]["content"] == content:
                return []
            self._http.write("cloud_init", "PUT", path, body)
        return [f"cloud-init group {pool.name}"]

    def _components(self, nodes: Sequence[Mapping[str, Any]]) -> list[str]:
        found = self._http.call("smd", "GET", "/hsm/v2/State/Components").json()["Components"]
        nids = {component["ID"]: component.get("NID") for component in found}
        missing = [node for node in nodes if node["xname"] not in nids]
        # SMD keeps the NID of a component that is posted again.
        moved = [node for node in nodes if nids.get(node["xname"], node["nid"]) != node["nid"]]
        if missing:
            body = {"Components": [_component(node) for node in missing], "Force": False}
            self._http.write("smd", "POST", "/hsm/v2/State/Components", body)
        if moved:
            body = {"Components": [{"ID": node["xname"], "NID": node["nid"]} for node in moved]}
            self._http.write("smd", "PATCH", "/hsm/v2/State/Components/BulkNID", body)
        return [node["xname"] for node in [*missing, *moved]]

    def _group(self, pool: Pool) -> list[str]:
        path = f"/hsm/v2/groups/{pool.name}"
        known = self._http.call("smd", "GET", path, accept=(200, 404))
        if known.status_code == 200 and not pool.group.items() <= known.json().items():
            self._http.write("smd", "DELETE", path)
        elif known.status_code == 200:
            # A member too many is left alone: it is on its way out, and belongs here until it is released.
            missing = sorted(set(pool.xnames) - set(known.json()["members"]["ids"]))
            for xname in missing:
                self._http.write("smd", "POST", f"{path}/members", {"id": xname})
            return missing
        self._http.write("smd", "POST", "/hsm/v2/groups", {**pool.group, "members": {"ids": pool.xnames}})
        return pool.xnames

    def _members(self, pool: str) -> list[str]:
        known = self._http.call("smd", "GET", f"/hsm/v2/groups/{pool}", accept=(200, 404))
        members: list[str] = known.json()["members"]["ids"] if known.status_code == 200 else []
        return members

    def _boot_parameters(self, xnames: list[str], boot: Boot) -> list[str]:
        wanted = {
            "kernel": boot.kernel_url,
            "initrd": boot.initrd_url,
            "params": " ".join(boot.arguments),
        }
        current = self._boot_entries()
        differing = [
            xname for xname in xnames if {key: current.get(xname, {}).get(key) for key in wanted} != wanted
        ]
        if differing:
            self._http.write("bss", "PUT", "/boot/v1/bootparameters", {"hosts": differing, **wanted})
        return differing

    def _boot_entries(self) -> dict[str, dict[str, Any]]:
        """What BSS has, by host. It answers 404 where it has nothing at all."""
        known = self._http.call("bss", "GET", "/boot/v1/bootparameters", accept=(200, 404))
        entries = (known.json() or []) if known.status_code == 200 else []
        return {host: entry for entry in entries for host in entry.get("hosts") or []}


def _differing(what: str, xnames: Collection[str]) -> list[str]:
    return [f"{what} of {folded(xnames)}"] if xnames else []


def _component(node: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "ID": node["xname"],
        "NID": node["nid"],
        "State": "Unknown",
        "Flag": "OK",
        "Enabled": True,
        "Role": "Compute",
        "Arch": "X86",
        "Class": "Mountain",
    }
