"""From VirtualMachine objects to machines: quantities, limits, MAC addresses, and what the lab cannot do."""

from typing import Any

import pytest

from lab.hypervisor import boot, places
from lab.hypervisor.api import CLAIM, IMAGE, NETWORK, SECRET, Key, Kind, Object
from lab.hypervisor.pending import Pending
from lab.hypervisor.quantity import parse, whole
from modules.machines.virtual_machine import VirtualMachineSpec, render

KEY = Key("lab", "svc-cp")
IMPORTED = {"conditions": [{"type": "Imported", "status": "True"}]}


class Objects:
    """An API that answers from a dictionary."""

    def __init__(self, *present: tuple[Kind, Key, Object]) -> None:
        self.present = {
            (kind, key): {"metadata": {"name": key.name, "namespace": key.namespace}, **body}
            for kind, key, body in present
        }

    def get(self, kind: Kind, key: Key) -> Object | None:
        return self.present.get((kind, key))


def machine(**changes: Any) -> Object:
    fields = {
        "name": "svc-cp",
        "namespace": "lab",
        "image": "images/debian-12",
        "network": "lab/nodes",
        "cpus": 2,
        "memory": 2**31,
        "disk": 2**34,
        "address": "10.77.0.10",
        "prefix_length": 24,
        "mac": "52:54:00:00:00:10",
        "ssh_keys": ["ssh-ed25519 AAAA operator"],
    }
    return render(VirtualMachineSpec.model_validate({**fields, **changes}), "lh-1234")[1]


def objects(without: Kind | None = None) -> Any:
    claim = {
        "metadata": {
            "name": "svc-cp-root",
            "namespace": "lab",
            "annotations": {"harvesterhci.io/imageId": "images/debian-12"},
        },
        "status": {"phase": "Bound"},
    }
    everything = [
        (CLAIM, Key("lab", "svc-cp-root"), claim),
        (IMAGE, Key("images", "debian-12"), {"metadata": {"uid": "1234"}, "status": IMPORTED}),
        (NETWORK, Key("lab", "nodes"), {}),
        (
            SECRET,
            Key("lab", "svc-cp-cloudinit"),
            {"data": {"userdata": "I2Nsb3VkLWNvbmZpZwo=", "networkdata": "e30="}},
        ),
    ]
    return Objects(*[entry for entry in everything if entry[0] != without])


def test_a_machine_is_assembled_from_its_objects() -> None:
    found = boot.assemble(objects(), machine())
    assert found == boot.Boot(
        name="svc-cp",
        owner="lab/svc-cp",
        image=places.image_mount("1234"),
        volume=places.volume(Key("lab", "svc-cp-root")),
        seed={
            "meta-data": "instance-id: svc-cp.lab\nlocal-hostname: svc-cp\n",
            "user-data": "#cloud-config\n",
            "network-config": "{}",
        },
        network="nodes",
        mac="52:54:00:00:00:10",
        cpus=2,
        memory=2**31,
    )


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (CLAIM, "volume lab/svc-cp-root is not there or not bound"),
        (IMAGE, "image images/debian-12 of volume svc-cp-root is not imported"),
        (NETWORK, "there is no NetworkAttachmentDefinition lab/nodes"),
        (SECRET, "Secret lab/svc-cp-cloudinit is not there"),
    ],
    ids=lambda value: value.kind if isinstance(value, Kind) else "",
)
def test_what_is_missing_is_named(missing: Kind, message: str) -> None:
    with pytest.raises(Pending, match=message):
        boot.assemble(objects(without=missing), machine())


def test_a_second_disk_is_refused() -> None:
    body = machine()
    spec = body["spec"]["template"]["spec"]
    spec["domain"]["devices"]["disks"].append({"name": "data"})
    spec["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": "data"}})
    with pytest.raises(Pending, match="have one disk from a volume claim; this one has 2"):
        boot.assemble(objects(), body)


def test_the_pod_network_is_refused() -> None:
    body = machine()
    body["spec"]["template"]["spec"]["networks"] = [{"name": "nic-0", "pod": {}}]
    with pytest.raises(Pending, match=r"one interface, on a network given by `multus\.networkName`"):
        boot.assemble(objects(), body)


def test_a_secret_without_the_entry_is_named() -> None:
    api = objects()
    api.present[(SECRET, Key("lab", "svc-cp-cloudinit"))]["data"].pop("userdata")
    with pytest.raises(Pending, match="Secret lab/svc-cp-cloudinit has no entry `userdata`"):
        boot.assemble(api, machine())


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ({"resources": {"limits": {"memory": "2Gi"}}, "memory": {"guest": "1948Mi"}}, 2**31),
        ({"memory": {"guest": "1Gi"}}, 2**30),
        ({"resources": {"requests": {"memory": "512Mi"}}}, 2**29),
    ],
)
def test_memory_is_the_limit_else_what_the_guest_sees(domain: Object, expected: int) -> None:
    assert boot.memory(domain) == expected


def test_a_machine_without_memory_is_refused() -> None:
    with pytest.raises(Pending, match="names no memory"):
        boot.memory({"cpu": {"cores": 1}})


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ({"resources": {"limits": {"cpu": "4"}}, "cpu": {"cores": 2}}, 4),
        ({"resources": {"limits": {"cpu": "500m"}}}, 1),
        ({"cpu": {"cores": 2, "sockets": 2, "threads": 2}}, 8),
        ({}, 1),
    ],
)
def test_cores_are_the_limit_else_the_guests_processors(domain: Object, expected: int) -> None:
    assert boot.cpus(domain) == expected


def test_a_mac_is_the_one_given_or_always_the_same() -> None:
    assert boot.mac_address(KEY, {"name": "nic-0", "macAddress": "52-54-00-AA-00-01"}) == "52:54:00:aa:00:01"
    made = boot.mac_address(KEY, {"name": "nic-0"})
    assert (
        made
        == boot.mac_address(KEY, {"name": "nic-0"})
        != boot.mac_address(Key("tds", "svc-cp"), {"name": "nic-0"})
    )
    assert made.startswith("52:54:00:")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2Gi", 2**31),
        ("16G", 16 * 10**9),
        ("1.5Ki", 1536),
        ("1e3", 1000),
        ("100m", 1),
        ("2k", 2000),
        (7, 7),
        (".5", 1),
    ],
)
def test_quantities_are_read_as_kubernetes_reads_them(text: str | int, number: int) -> None:
    assert whole(text) == number


@pytest.mark.parametrize("text", ["", "Gi", "2 Gi", "2gi", "-1", "1K", "0x10"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a Kubernetes quantity"):
        parse(text)
