"""Manifest, and the components of the hypervisor layer, with Pulumi's mocks: what the engine is asked for."""

import json
from collections.abc import Iterator
from typing import Any

import pulumi
import pytest

from modules.machines.virtual_machine import VirtualMachine, VirtualMachineSpec
from modules.machines.vm_image import VmImage, VmImageSpec
from modules.manifest import Manifest, resource_type
from modules.spec import quantity

_SECRET_SIGNATURE = "4dabf18193072939515e22adb298388d"
_CLAIMS = "harvesterhci.io/volumeClaimTemplates"


class Engine(pulumi.runtime.Mocks):
    """Records every resource; an image gets the status that the hypervisor would give it."""

    def __init__(self) -> None:
        self.resources: list[pulumi.runtime.MockResourceArgs] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.resources.append(args)
        return args.name, {**args.inputs, "status": {"storageClassName": "lh-1234", "size": 3}}

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[Any, Any]:
        raise AssertionError(f"nothing of it calls {args.token}")

    def inputs(self, kind: str) -> dict[Any, Any]:
        [found] = [
            resource
            for resource in self.resources
            if resource.typ.startswith("kubernetes:") and resource.typ.endswith(f":{kind}")
        ]
        return found.inputs


@pytest.fixture
def engine() -> Iterator[Engine]:
    mocks = Engine()
    pulumi.runtime.set_mocks(mocks, preview=False)
    yield mocks


@pytest.mark.parametrize(
    ("api_version", "kind", "expected"),
    [
        ("v1", "Secret", "kubernetes:core/v1:Secret"),
        ("apps/v1", "Deployment", "kubernetes:apps/v1:Deployment"),
        ("kubevirt.io/v1", "VirtualMachine", "kubernetes:kubevirt.io/v1:VirtualMachine"),
    ],
)
def test_the_type_is_the_one_of_the_kubernetes_provider(api_version: str, kind: str, expected: str) -> None:
    assert resource_type({"apiVersion": api_version, "kind": kind}) == expected


@pulumi.runtime.test
def test_fields_beside_spec_pass_and_the_status_is_readable(engine: Engine) -> pulumi.Output[None]:
    setting = {
        "apiVersion": "harvesterhci.io/v1beta1",
        "kind": "Setting",
        "metadata": {"name": "s"},
        "value": "on",
    }
    manifest = Manifest(setting)

    def check(status: dict[str, Any]) -> None:
        assert status["size"] == 3
        annotations = {"pulumi.com/patchForce": "true"}
        assert engine.inputs("Setting") == {**setting, "metadata": {"name": "s", "annotations": annotations}}

    return manifest.status.apply(check)


@pulumi.runtime.test
def test_the_content_of_a_secret_is_a_secret_to_pulumi(engine: Engine) -> pulumi.Output[None]:
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "stringData": {"userdata": "hunter2"},
    }
    manifest = Manifest(body)

    def check(_: object) -> None:
        content = engine.inputs("Secret")["stringData"]
        assert _SECRET_SIGNATURE in content, "plain text would be in the state"

    return manifest.urn.apply(check)


@pulumi.runtime.test
def test_a_machine_uses_the_storage_class_of_its_image(engine: Engine) -> pulumi.Output[None]:
    image = VmImage(
        VmImageSpec(name="debian-12", namespace="lab", url="http://10.77.0.1/d.squashfs", checksum=128 * "0")
    )
    machine = VirtualMachine(
        VirtualMachineSpec.model_validate(
            {
                "name": "svc-cp",
                "namespace": "lab",
                "image": image.image_id,
                "network": "lab/nodes",
                "cpus": 2,
                "memory": 2**31,
                "disk": 2**34,
                "address": "10.77.0.10",
                "prefix_length": 24,
                "mac": "52:54:00:00:00:10",
                "ssh_keys": ["ssh-ed25519 AAAA operator"],
            }
        ),
        image.storage_class,
    )

    def check(_: object) -> None:
        [claim] = json.loads(engine.inputs("VirtualMachine")["metadata"]["annotations"][_CLAIMS])
        assert claim["spec"]["storageClassName"] == "lh-1234"
        assert claim["metadata"]["annotations"] == {"harvesterhci.io/imageId": image.image_id}
        # Names that do not change with the group of a machine or its place in a list: nothing is replaced then.
        names = sorted((r.typ.rpartition(":")[2], r.name) for r in engine.resources)
        assert names == [
            ("Secret", "svc-cp-cloudinit"),
            *[("VirtualMachine", "svc-cp")] * 2,  # the component and the object
            ("VirtualMachineImage", "debian-12"),
            ("VmImage", "debian-12"),
        ]

    return machine.ready.urn.apply(check)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (1, "1"),
        (1500, "1500"),
        (1536, "1536"),
        (2048, "2Ki"),
        (2**31, "2Gi"),
        (2**31 - 2**20, "2047Mi"),
    ],
)
def test_a_quantity_loses_nothing(number: int, text: str) -> None:
    assert quantity(number) == text
