"""What BSS knows: a copy of SMD's nodes, taken when asked to, and the boot data stored with it.

Source: BSS 1.32 with its memory store; tests/data/contracts.
"""

import uuid
from collections.abc import Iterable
from typing import Any

from lab.provisioner.bss_script import BootData
from lab.provisioner.smd_components import COMPONENT
from lab.provisioner.smd_inventory import ENDPOINT, INTERFACE
from lab.provisioner.store import Document, Store

PARAMS = "bss-params"
KERNEL = "bss-kernel"
INITRD = "bss-initrd"
ACCESS = "bss-access"
PHONE_HOME = ("pub_key_dsa", "pub_key_rsa", "pub_key_ecdsa", "instance_id", "hostname", "fqdn")


def cloud_init_data(given: Document | None = None) -> Document:
    given = given or {}
    phone_home = given.get("phone-home") or {}
    return {
        "meta-data": given.get("meta-data"),
        "user-data": given.get("user-data"),
        "phone-home": {field: phone_home.get(field, "") for field in PHONE_HOME},
    }


class Nodes:
    """BSS's copy of SMD. A node with no ComponentEndpoint (no BMC known) is `EndpointEnabled: false`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.all: list[Document] = []
        self.refresh()

    def refresh(self) -> None:
        endpoints = {endpoint["ID"]: endpoint for endpoint in self._store.all(ENDPOINT)}
        nics: dict[str, list[str]] = {}
        for interface in self._store.all(INTERFACE):
            nics.setdefault(interface["ComponentID"], []).append(interface["MACAddress"])
        nodes = [component for component in self._store.all(COMPONENT) if component["Type"] == "Node"]
        self.all = [self._node(node, endpoints.get(node["ID"]), nics.get(node["ID"], [])) for node in nodes]

    @staticmethod
    def _node(component: Document, endpoint: Document | None, macs: list[str]) -> Document:
        known = endpoint["RedfishSystemInfo"]["EthernetNICInfo"] if endpoint else []
        # A MAC known to both the BMC and the interface table is listed twice, as the real service does.
        both = list(dict.fromkeys(nic["MACAddress"] for nic in known if nic["MACAddress"])) + macs
        return component | {"FQDN": "", "MAC": both or None, "EndpointEnabled": endpoint is not None}

    def by_name(self, name: str) -> Document | None:
        return next((node for node in self.all if node["ID"] == name), None)

    def by_mac(self, mac: str) -> Document | None:
        """Only nodes that SMD does not call Empty are found by MAC."""
        for node in self.all:
            if node["State"] != "Empty" and mac.lower() in [known.lower() for known in node["MAC"] or []]:
                return node
        return None

    def by_nid(self, nid: int) -> Document | None:
        return next((node for node in self.all if node.get("NID") == nid), None)


class BootParameters:
    """Boot data by name: an xname, a role, `Default`, or a MAC or `nid<n>` SMD did not know when stored."""

    def __init__(self, store: Store, nodes: Nodes) -> None:
        self._store = store
        self._nodes = nodes

    def names(self, given: Document) -> list[str]:
        """The names a request selects: its hosts, else its MACs, else its NIDs."""
        if given.get("hosts"):
            return [str(host) for host in given["hosts"]]
        if given.get("macs"):
            return [self._name_of_mac(str(mac)) for mac in given["macs"]]
        return [self._name_of_nid(int(nid)) for nid in given.get("nids") or []]

    def _name_of_mac(self, mac: str) -> str:
        node = self._nodes.by_mac(mac)
        return node["ID"] if node else mac

    def _name_of_nid(self, nid: int) -> str:
        node = self._nodes.by_nid(nid)
        return node["ID"] if node else f"nid{nid}"

    def store(self, given: Document) -> str:
        """Store or replace. Returns the referral token, "" if only parameters of an image were stored."""
        for kind, field in ((KERNEL, "kernel"), (INITRD, "initrd")):
            if given.get(field) and self._store.get(kind, given[field]) is None:
                self._store.put(kind, given[field], {"path": given[field], "params": ""})
        names = self.names(given)
        if not names:
            self._store_image_params(given)
            return ""
        token = str(uuid.uuid4())
        record = {field: given.get(field) or "" for field in ("params", "kernel", "initrd")}
        record |= {"cloud-init": cloud_init_data(given.get("cloud-init")), "referral-token": token}
        for name in names:
            self._store.put(PARAMS, name, record)
        return token

    def _store_image_params(self, given: Document) -> None:
        kind, field = (KERNEL, "kernel") if given.get("kernel") else (INITRD, "initrd")
        if given.get(field):
            self._store.put(kind, given[field], {"path": given[field], "params": given.get("params") or ""})

    def exists(self, name: str) -> bool:
        return self._store.get(PARAMS, name) is not None

    def update(self, given: Document) -> None:
        """Change the fields given, of every record selected. Raises KeyError: a name that has no record."""
        names = self.names(given)
        for name in names:
            if not self.exists(name):
                raise KeyError(name)
        changes = {field: given[field] for field in ("params", "kernel", "initrd") if given.get(field)}
        if given.get("cloud-init"):
            changes["cloud-init"] = cloud_init_data(given["cloud-init"])
        for name in names:
            self._store.put(PARAMS, name, (self._store.get(PARAMS, name) or {}) | changes)

    def remove(self, given: Document) -> str:
        """Remove all that is selected. Returns the first name that was not there, "" if all were."""
        missing = [name for name in self.names(given) if not self._store.delete(PARAMS, name)]
        for kind, field in ((KERNEL, "kernel"), (INITRD, "initrd")):
            if given.get(field) and self._store.delete(kind, given[field]):
                for name, record in self._store.items(PARAMS):
                    if record[field] == given[field]:
                        self._store.put(PARAMS, name, record | {field: ""})
        return missing[0] if missing else ""

    def find(self, names: Iterable[str]) -> BootData:
        """The boot data of the first name that has any."""
        for name in names:
            record = self._store.get(PARAMS, name) if name else None
            if record:
                images = [
                    self._store.get(KERNEL, record["kernel"]),
                    self._store.get(INITRD, record["initrd"]),
                ]
                extra = " ".join(image["params"] for image in images if image and image["params"])
                return BootData(
                    record["params"], record["kernel"], record["initrd"], extra, record["referral-token"]
                )
        return BootData()

    def shown(self) -> list[Document]:
        """Everything: bare kernels, bare initrds, then the names."""
        images = [{"kernel": i["path"], "params": i["params"]} for i in self._store.all(KERNEL)]
        images += [{"initrd": i["path"], "params": i["params"]} for i in self._store.all(INITRD)]
        return [_shown(image) for image in images] + [
            _shown(record | {"hosts": [name]}) for name, record in sorted(self._store.items(PARAMS))
        ]

    def select(self, hosts: list[str], macs: list[str], nids: list[int]) -> list[Document]:
        """The records of these hosts, MACs or NIDs, in the order asked, then in that of the names."""
        records = dict(sorted(self._store.items(PARAMS)))
        found = [_shown(records[host] | {"hosts": [host]}) for host in hosts if host in records]
        lower = {mac.lower() for mac in macs}
        for name, record in records.items():
            node: dict[str, Any] = self._nodes.by_name(name) or {}
            by_mac = lower & {mac.lower() for mac in node.get("MAC") or []}
            if name not in hosts and (by_mac or node.get("NID") in nids):
                found.append(_shown(record | {"hosts": [name]}))
        return found


def _shown(record: Document) -> Document:
    fields = ("hosts", "params", "kernel", "initrd")
    chosen = {field: record[field] for field in fields if record.get(field)}
    return chosen | {"cloud-init": record.get("cloud-init") or cloud_init_data()}
