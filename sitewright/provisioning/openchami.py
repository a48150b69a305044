"""Declares nodes to OpenCHAMI: SMD, the cloud-init server, and what gives out boot scripts.

The order matters: a node that boots early must find its configuration and its group, and it gets a boot script only
once SMD knows the node, its BMC and its interface. So groups come first, then components, Redfish endpoints and
members, then what they boot, at BSS (boot_bss.py) or at boot-service (boot_service.py).

Source: exchanges recorded from SMD 2.20.5 and cloud-init 1.4.5, replayed by tests/contracts/test_provisioner.py.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from sitewright.errors import SitewrightError
from sitewright.provisioning import openchami_endpoints as endpoints
from sitewright.provisioning.boot import Boot, BootBackend
from sitewright.provisioning.boot_bss import Bss
from sitewright.provisioning.boot_service import BootService
from sitewright.provisioning.openchami_http import GONE, Held, Http, Services, folded, for_each

EXCLUSIVE = "sitewright-pool"
"""SMD's `exclusiveGroup` of the groups of all pools."""

COMPONENTS, GROUPS = "/hsm/v2/State/Components", "/hsm/v2/groups"
CONFIGURATIONS = "/admin/groups"


@dataclass(frozen=True)
class Group:
    """A group of SMD, without members. exclusive: SMD's `exclusiveGroup`; a node is in one group of each at most."""

    label: str
    description: str
    exclusive: str

    @property
    def body(self) -> dict[str, str]:
        return {"label": self.label, "description": self.description, "exclusiveGroup": self.exclusive}


@dataclass(frozen=True)
class Configuration:
    """What the cloud-init server gives to the nodes of the group of SMD that has the same name."""

    name: str
    description: str
    meta_data: Mapping[str, str]
    cloud_config: str

    @property
    def body(self) -> dict[str, Any]:
        content = base64.b64encode(self.cloud_config.encode()).decode()
        return {
            "name": self.name,
            "description": self.description,
            "meta-data": dict(self.meta_data),
            "file": {"content": content, "encoding": "base64"},
        }


@dataclass(frozen=True)
class Known:
    """A node as the services know it. state: SMD's; pool: "" for none; kernel: the URL it boots, "" for none."""

    state: str
    pool: str
    kernel: str


class OpenChami:
    """One session with the services.

    check:  only ask: what would be written is left out, what differs is told all the same.
    Raises: SitewrightError naming the service, the request and its answer.
    """

    def __init__(
        self, services: Services, check: bool = False, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._http = Http(services, check, transport)
        self._boot = _boot_backend(self._http, services)

    def stop(self) -> None:
        """From another thread: whoever is at work stops before the next request."""
        self._http.stopped = True

    @property
    def answered(self) -> int:
        """How many requests were answered."""
        return self._http.answered

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

    def declare_group(self, group: Group) -> list[str]:
        """Make SMD have the group. Returns: what differed.

        Raises: Held where it has members and is another one's: another description, another exclusive group.
        """
        known = self._group(group.label)
        if known is not None:
            if group.body.items() <= known.items():
                return []
            _require_empty(known)
            self._http.write("smd", "DELETE", f"{GROUPS}/{group.label}")
        self._http.write("smd", "POST", GROUPS, {**group.body, "members": {"ids": []}})
        return [f"group {group.label}"]

    def declare_configuration(self, configuration: Configuration) -> list[str]:
        """Make the cloud-init server have it. Returns: what differed."""
        body, path = configuration.body, f"{CONFIGURATIONS}/{configuration.name}"
        answer = self._http.call("cloud_init", "GET", path, accept=(200, 404))
        if answer.status_code == 404:
            self._http.write("cloud_init", "POST", CONFIGURATIONS, body)
        else:
            known = answer.json()
            if (
                known.get("meta-data") == body["meta-data"]
                and known["file"]["content"] == body["file"]["content"]
            ):
                return []
            self._http.write("cloud_init", "PUT", path, body)
        return [f"cloud-init group {configuration.name}"]

    def declare_nodes(self, label: str, nodes: Sequence[Mapping[str, Any]]) -> list[str]:
        """Make SMD know nodes (dicts of site.Node) with their BMCs and interfaces, as members of a group of it.

        Returns: what differed, by kind, with the nodes: `components of x1000c0s[0-1]b0n0`.
        Raises:  Held where a group that excludes this one still has a node, a BMC's first node is not known yet, or
                 what gives out boot scripts has not seen the nodes yet.
        """
        self._require_free(label, [node["xname"] for node in nodes])
        differences = [
            *_differing("components", self._components(nodes)),
            *_differing("Redfish endpoints", endpoints.declare(self._http, nodes)),
            *_differing(f"group {label}", self._join_group(label, [node["xname"] for node in nodes])),
        ]
        return [*differences, *self._boot.nodes_changed(nodes)]

    def set_boot(self, label: str, xnames: Sequence[str], boot: Boot) -> list[str]:
        """Make declared nodes of a group boot something else from now on. Returns: those that did not yet."""
        return self._boot.set_boot(label, xnames, boot)

    def interfaces(self) -> dict[str, str]:
        """The xname of each MAC address that SMD knows."""
        return endpoints.owners(self._http)

    def readdress(self, of_bmc: Sequence[Mapping[str, Any]], xname: str) -> list[str]:
        """Have SMD know a node by its MAC address only. of_bmc: all nodes of its BMC. Returns: what differed."""
        [node] = [one for one in of_bmc if one["xname"] == xname]
        stale = endpoints.forget_others(self._http, node)
        differing = _differing("Redfish endpoints", endpoints.declare(self._http, of_bmc))
        if stale or differing:
            differing += self._boot.nodes_changed([node])
        return [*(f"MAC address {mac} of {xname}" for mac in stale), *differing]

    def forget_boot(self, label: str, xnames: Sequence[str]) -> None:
        """Have nodes of a group boot nothing any more. What is already gone stays gone, and what another owner has is
        left alone, here and below."""
        self._boot.forget_boot(sorted(set(xnames) - self.of_others(label, xnames)))

    def forget_nodes(self, label: str, nodes: Sequence[Mapping[str, Any]]) -> None:
        """Undo `declare_nodes`. A component is last: with it SMD takes the node out of its groups, and another may
        have it."""
        others = self.of_others(label, [node["xname"] for node in nodes])
        ours = [node for node in nodes if node["xname"] not in others]
        endpoints.forget(self._http, ours)
        for node in ours:
            self._http.write("smd", "DELETE", f"{COMPONENTS}/{node['xname']}", accept=GONE)
        self._boot.nodes_gone([node["xname"] for node in ours])

    def owners(self) -> dict[str, str]:
        """The group that owns a node, by xname: pools and whoever else has SMD see to it that a node has one owner."""
        return {
            xname: group["label"]
            for group in self._http.call("smd", "GET", GROUPS).json()
            if group.get("exclusiveGroup") == EXCLUSIVE
            for xname in group["members"]["ids"]
        }

    def of_others(self, label: str, xnames: Collection[str]) -> set[str]:
        """Those of the nodes that another owner has."""
        owners = self.owners()
        return {xname for xname in xnames if owners.get(xname, label) != label}

    def require_owner(self, label: str) -> None:
        """Raises: SitewrightError where there is no such group, or a node of it could have another owner too."""
        group = self.group(label)
        if group is None or group.exclusive != EXCLUSIVE:
            what = "there is no such group" if group is None else f"its exclusiveGroup is {group.exclusive!r}"
            raise SitewrightError(
                f"group {label}: {what} in SMD, so it cannot own nodes; nothing was changed",
                f"Make it with the exclusiveGroup {EXCLUSIVE!r}; a pool's is made by `pulumi up`.",
            )

    def hand_over(self, xname: str, label: str) -> None:
        """Make a group the owner of a node. Between two owners it has none for a moment, and never both."""
        owner = self.owners().get(xname)
        if owner == label:
            return
        if owner:
            self._http.write("smd", "DELETE", f"{GROUPS}/{owner}/members/{xname}", accept=GONE)
        self._http.write("smd", "POST", f"{GROUPS}/{label}/members", {"id": xname})

    def forget_interface(self, xname: str, mac: str) -> None:
        """Have SMD forget a MAC address, where it is that of the node."""
        if self.interfaces().get(mac) == xname:
            endpoints.forget_interface(self._http, mac)

    def forget_configuration(self, name: str) -> None:
        self._http.write("cloud_init", "DELETE", f"{CONFIGURATIONS}/{name}", accept=GONE)

    def forget_group(self, label: str) -> None:
        """Raises: Held while it has members."""
        if known := self._group(label):
            _require_empty(known)
        self._http.write("smd", "DELETE", f"{GROUPS}/{label}", accept=GONE)

    def group(self, label: str) -> Group | None:
        """The group as SMD has it."""
        if (known := self._group(label)) is None:
            return None
        return Group(label, known.get("description", ""), known.get("exclusiveGroup", ""))

    def configuration(self, name: str) -> Configuration | None:
        """What the cloud-init server has for the nodes of a group."""
        answer = self._http.call("cloud_init", "GET", f"{CONFIGURATIONS}/{name}", accept=(200, 404))
        if answer.status_code == 404:
            return None
        known = answer.json()
        content = known["file"]["content"]
        if known["file"].get("encoding") == "base64":
            content = base64.b64decode(content).decode()
        return Configuration(name, known.get("description", ""), known.get("meta-data") or {}, content)

    def nodes(self, label: str) -> dict[str, dict[str, Any]]:
        """The members of a group as `declare_nodes` takes them, by xname; what SMD does not know is left out."""
        members = set(known["members"]["ids"] if (known := self._group(label)) else ())
        components = self._http.call("smd", "GET", f"{COMPONENTS}?type=Node").json()["Components"]
        found = {one["ID"]: {"nid": one.get("NID")} for one in components if one["ID"] in members}
        for xname, facts in endpoints.facts(self._http).items():
            if xname in found:
                found[xname] |= facts
        return {xname: {"xname": xname, **facts} for xname, facts in sorted(found.items())}

    def boots(self, xnames: Collection[str]) -> dict[str, Boot]:
        """What these nodes boot; those that boot nothing are left out."""
        return {xname: boot for xname, boot in self._boot.boots().items() if xname in xnames}

    def known(self) -> dict[str, Known]:
        """All nodes that the services know, by xname, in as many requests however many there are."""
        components = self._http.call("smd", "GET", f"{COMPONENTS}?type=Node").json()["Components"]
        pools = self.owners()
        kernels = {xname: boot.kernel_url for xname, boot in self._boot.boots().items()}
        return {
            one["ID"]: Known(one["State"], pools.get(one["ID"], ""), kernels.get(one["ID"], ""))
            for one in components
        }

    def _require_free(self, label: str, xnames: Sequence[str]) -> None:
        groups = self._http.call("smd", "GET", GROUPS).json()
        exclusive = {group["label"]: group.get("exclusiveGroup") for group in groups}.get(label)
        for group in groups:
            if not exclusive or group.get("exclusiveGroup") != exclusive or group["label"] == label:
                continue
            if held := set(group["members"]["ids"]) & set(xnames):
                raise Held(
                    f"{folded(held)}: still in {group.get('description') or group['label']}",
                    "It is free once it was released there. If it did not become so by itself, make it two updates: "
                    "take it out of its pool in the first, put it into the other in the second.",
                )

    def _components(self, nodes: Sequence[Mapping[str, Any]]) -> list[str]:
        found = self._http.call("smd", "GET", COMPONENTS).json()["Components"]
        nids = {component["ID"]: component.get("NID") for component in found}
        missing = [node for node in nodes if node["xname"] not in nids]
        # SMD keeps the NID of a component that is posted again.
        moved = [node for node in nodes if nids.get(node["xname"], node["nid"]) != node["nid"]]
        if missing:
            body = {"Components": [component(node) for node in missing], "Force": False}
            self._http.write("smd", "POST", COMPONENTS, body)
        if moved:
            body = {"Components": [{"ID": node["xname"], "NID": node["nid"]} for node in moved]}
            self._http.write("smd", "PATCH", f"{COMPONENTS}/BulkNID", body)
        return [node["xname"] for node in [*missing, *moved]]

    def _join_group(self, label: str, xnames: Sequence[str]) -> list[str]:
        """A member too many is left alone: it is on its way out, and belongs here until it is released."""
        known = self._group(label)
        members = known["members"]["ids"] if known else []
        missing = sorted(set(xnames) - set(members))

        def join(xname: str) -> None:
            self._http.write("smd", "POST", f"{GROUPS}/{label}/members", {"id": xname})

        if len(missing) < 2 or not self._set_members(label, sorted({*members, *missing})):
            for_each(f"group {label}", {xname: xname for xname in missing}, join)
        return missing

    def _set_members(self, label: str, members: Sequence[str]) -> bool:
        """All in one request. False where the service has none for it, as CSM's has not."""
        path, body = f"{GROUPS}/{label}/members", {"ids": list(members)}
        answer = self._http.write("smd", "PUT", path, body, accept=(404, 405, 501))
        return answer is None or answer.is_success

    def _group(self, label: str) -> dict[str, Any] | None:
        answer = self._http.call("smd", "GET", f"{GROUPS}/{label}", accept=(200, 404))
        return answer.json() if answer.status_code == 200 else None


def _boot_backend(http: Http, services: Services) -> BootBackend:
    """What gives out boot scripts in this site."""
    return BootService(http, services.seed) if services.boot_service else Bss(http)


def _differing(what: str, xnames: Collection[str]) -> list[str]:
    return [f"{what} of {folded(xnames)}"] if xnames else []


def component(node: Mapping[str, Any]) -> dict[str, Any]:
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


def _require_empty(group: Mapping[str, Any]) -> None:
    if held := group["members"]["ids"]:
        raise Held(
            f"{folded(held)}: still in {group.get('description') or group['label']}",
            "They are free once they were released there; then run the same again.",
        )
