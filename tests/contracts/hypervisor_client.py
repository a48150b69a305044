"""The lab's hypervisor as its tests use it: manifests of the modules, applied and looked at over its API."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from fake_hypervisor import Controller, FakeHost, ImageServer, until

from lab.hypervisor import conditions
from lab.hypervisor.api import (
    IMAGE,
    IP_POOL,
    LOAD_BALANCER,
    NETWORK,
    SECRET,
    VIRTUAL_MACHINE,
    Api,
    Key,
    Kind,
    Object,
)
from modules import virtual_machine, vm_image, vm_network
from modules.spec import GIBI

CONTENT = b"hsqs" + bytes(range(256)) * 2048

CHECKSUM = hashlib.sha512(CONTENT).hexdigest()
KINDS = {kind.kind: kind for kind in (IMAGE, IP_POOL, LOAD_BALANCER, NETWORK, SECRET, VIRTUAL_MACHINE)}


@dataclass
class Hypervisor:
    """What all tests share. A test works in a namespace of its own, `place`."""

    api: Api
    host: FakeHost
    controller: Controller
    images: ImageServer
    place: str = ""
    image: Key = field(default_factory=lambda: Key("", ""))

    def apply(self, manifest: Object) -> Key:
        """As Pulumi applies it."""
        key = Key(manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])
        self.api.apply(KINDS[manifest["kind"]], key, manifest)
        return key

    def see(self, kind: Kind, key: Key, what: str, look: Any = bool, timeout: float = 10.0) -> Object:
        """The object, once it satisfies `look`."""

        def found() -> Object | None:
            body = self.api.get(kind, key)
            return body if body is not None and look(body) else None

        return until(found, f"{kind.kind} {key}: {what}; it is {self.api.get(kind, key)}", timeout)

    def see_gone(self, kind: Kind, key: Key) -> None:
        until(lambda: self.api.get(kind, key) is None, f"{kind.kind} {key} is gone")

    def see_status(self, key: Key, printable: str) -> Object:
        return self.see(
            VIRTUAL_MACHINE,
            key,
            printable,
            lambda vm: vm.get("status", {}).get("printableStatus") == printable,
        )

    def see_ready(self, key: Key) -> Object:
        return self.see(
            VIRTUAL_MACHINE, key, "AgentConnected", lambda vm: conditions.holds(vm, "AgentConnected")
        )

    def delete(self, kind: Kind, key: Key) -> None:
        """As Pulumi deletes it: dependents first, waiting for a garbage collector."""
        self.api._call("DELETE", f"{kind.path(*key)}?propagationPolicy=Foreground")

    def import_image(self, name: str = "debian", checksum: str = CHECKSUM, **spec: Any) -> Key:
        fields = {
            "name": name,
            "namespace": self.place,
            "url": self.images.url(name),
            "checksum": checksum,
            **spec,
        }
        [manifest] = vm_image.render(vm_image.VmImageSpec.model_validate(fields))
        return self.apply(manifest)

    def start_machine(self, **changes: Any) -> Key:
        """Everything a VM needs, and the VM, named as the namespace."""
        image = self.import_image()
        body = self.see(IMAGE, image, "imported", lambda image: conditions.holds(image, "Imported"))
        network = {"name": "nodes", "namespace": self.place, "cidr": "10.1.0.0/24", "vlan": 100}
        for manifest in vm_network.render(vm_network.VmNetworkSpec.model_validate(network)):
            self.apply(manifest)
        spec = self.machine_spec(image, **changes)
        for manifest in virtual_machine.render(spec, body["status"]["storageClassName"]):
            key = self.apply(manifest)
        return key

    def machine_spec(self, image: Key, **changes: Any) -> virtual_machine.VirtualMachineSpec:
        fields = {
            "name": self.place,
            "namespace": self.place,
            "image": str(image),
            "network": f"{self.place}/nodes",
            "cpus": 2,
            "memory": 2 * GIBI,
            "disk": 20 * GIBI,
            "address": "10.1.0.10",
            "prefix_length": 24,
            "gateway": "10.1.0.1",
            "mac": "52:54:00:00:00:10",
            "ssh_keys": ("ssh-ed25519 AAAA operator",),
            **changes,
        }
        return virtual_machine.VirtualMachineSpec.model_validate(fields)
