"""A virtual machine on Harvester: its disk, its address and its first boot from manifests alone."""

import json
from ipaddress import IPv4Address, IPv4Interface
from typing import Any, Literal

import pulumi
from pydantic import ConfigDict, Field, field_validator, model_validator

from modules.machines import cloud_init
from modules.manifest import Manifest
from modules.spec import DNS_LABEL, GIBI, MAC, MEBI, Model, quantity
from sitewright.site.names import VM_NAME_LENGTH

BOOT_TIMEOUT = 600  # seconds from applied to Ready
SHUTDOWN_GRACE = 120  # seconds a guest may take to shut down before its power is cut
# The limit of a VM covers the emulator too; Harvester keeps about this much of it from the guest.
_EMULATOR_MEMORY = 100 * MEBI
_CLAIM_TEMPLATES = "harvesterhci.io/volumeClaimTemplates"
_IMAGE_LABEL = "sitewright.dev/image"
_NIC = "nic-0"


class VirtualMachineSpec(Model):
    # User data may hold secrets, and pydantic would quote it in its messages.
    model_config = ConfigDict(hide_input_in_errors=True)

    name: str = Field(pattern=DNS_LABEL, max_length=VM_NAME_LENGTH, description="also its host name")
    namespace: str = Field(pattern=DNS_LABEL)
    image: str = Field(pattern=r"^[-a-z0-9]+/[-a-z0-9.]+$", description="namespace/object, VmImage.image_id")
    network: str = Field(
        pattern=r"^[-a-z0-9]+/[-a-z0-9]+$", description="namespace/object, VmNetwork.network_id"
    )
    cpus: int = Field(ge=1)
    memory: int = Field(ge=512 * MEBI, description="bytes; the limit, of which the guest sees 100 MiB less")
    disk: int = Field(ge=GIBI, description="bytes; may grow later, never shrink")
    address: IPv4Address
    prefix_length: int = Field(ge=1, le=30)
    gateway: IPv4Address | None = None
    dns: tuple[IPv4Address, ...] = ()
    mac: str = Field(pattern=MAC, description="set here, so that address and tests do not depend on a draw")
    ssh_user: str = "root"
    ssh_keys: tuple[str, ...] = Field(min_length=1, description="public keys in OpenSSH format")
    user_data: str | None = Field(None, repr=False, description="a cloud-config; None: name and keys only")
    run_strategy: Literal["RerunOnFailure", "Always", "Halted"] = "RerunOnFailure"
    keep_disk: bool = Field(False, description="leave the volume behind when the VM is deleted")
    labels: dict[str, str] = Field({})

    @field_validator("user_data")
    @classmethod
    def _user_data_is_cloud_config(cls, text: str | None) -> str | None:
        return None if text is None else cloud_init.checked_user_data(text)

    @field_validator("ssh_keys")
    @classmethod
    def _keys_are_public(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        for number, key in enumerate(keys, start=1):
            if "PRIVATE KEY" in key:
                raise ValueError(f"key {number} is a private key; give the content of its .pub file")
            if len(key.split()) < 2 or "\n" in key.strip():
                raise ValueError(f"key {number} is not one line `<type> <base64> [comment]`")
        return tuple(key.strip() for key in keys)

    @model_validator(mode="after")
    def _gateway_is_near(self) -> "VirtualMachineSpec":
        network = IPv4Interface(f"{self.address}/{self.prefix_length}").network
        if self.gateway is not None and (self.gateway not in network or self.gateway == self.address):
            raise ValueError(f"gateway {self.gateway} is not another address of {network}")
        if self.user_data is not None:
            cloud_init.with_ssh_keys(self.user_data, self.ssh_keys)
        return self

    @property
    def claim(self) -> str:
        return f"{self.name}-root"

    @property
    def cloud_init_secret(self) -> str:
        return f"{self.name}-cloudinit"


def render(spec: VirtualMachineSpec, storage_class: str) -> list[dict[str, Any]]:
    """The cloud-init Secret and the VirtualMachine, in the order they are applied.

    storage_class: the one the hypervisor made for the image.
    Source: Harvester's VM builder; kubevirt.io/v1. The API refuses inline user data above 2048 bytes, so it
    is always a Secret.
    """
    return [_secret(spec), _virtual_machine(spec, storage_class)]


class VirtualMachine(pulumi.ComponentResource):
    """A machine that has booted once `ready` is there.

    storage_class: `VmImage.storage_class`.
    """

    def __init__(
        self,
        spec: VirtualMachineSpec,
        storage_class: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("sitewright:modules:VirtualMachine", spec.name, None, opts)
        secret, machine = render(spec, storage_class="")
        # Known only once the image is there; everything else of the machine is in the first preview.
        machine["metadata"]["annotations"][_CLAIM_TEMPLATES] = pulumi.Output.from_input(storage_class).apply(
            lambda name: _claim_templates(spec, name)
        )
        cloud_init_data = Manifest(secret, opts=pulumi.ResourceOptions(parent=self))
        self.ready = Manifest(
            machine,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[cloud_init_data],
                # A volume cannot change its image: another image is another machine, and a preview says so.
                replace_on_changes=[f'metadata.labels["{_IMAGE_LABEL}"]'],
                delete_before_replace=True,
            ),
        )
        self.name = spec.name
        self.address = str(spec.address)
        self.register_outputs({"name": self.name, "address": self.address})


def _secret(spec: VirtualMachineSpec) -> dict[str, Any]:
    given = spec.user_data
    userdata = (
        cloud_init.user_data(spec.name, spec.ssh_user, spec.ssh_keys)
        if given is None
        else cloud_init.with_ssh_keys(given, spec.ssh_keys)
    )
    networkdata = cloud_init.network_data(spec.mac, spec.address, spec.prefix_length, spec.gateway, spec.dns)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": spec.cloud_init_secret,
            "namespace": spec.namespace,
            "labels": {"harvesterhci.io/cloud-init-template": "harvester"},  # shows it in Harvester's UI
        },
        "stringData": {"userdata": userdata, "networkdata": networkdata},
    }


def _virtual_machine(spec: VirtualMachineSpec, storage_class: str) -> dict[str, Any]:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": {
                **spec.labels,
                "harvesterhci.io/creator": "sitewright",
                "harvesterhci.io/os": "linux",
                _IMAGE_LABEL: spec.image.partition("/")[2],
            },
            "annotations": _annotations(spec, storage_class),
        },
        "spec": {"runStrategy": spec.run_strategy, "template": _template(spec)},
    }


def _annotations(spec: VirtualMachineSpec, storage_class: str) -> dict[str, str]:
    annotations = {_CLAIM_TEMPLATES: _claim_templates(spec, storage_class)}
    if not spec.keep_disk:
        # Harvester keeps the volumes of a VM deleted through the API unless they are named here by then.
        annotations["harvesterhci.io/removedPersistentVolumeClaims"] = spec.claim
    if spec.run_strategy != "Halted":
        # The strategy Harvester starts the machine with; it puts this value back whenever it differs.
        annotations["harvesterhci.io/vmRunStrategy"] = spec.run_strategy
        annotations["pulumi.com/waitFor"] = "condition=Ready"
        annotations["pulumi.com/timeoutSeconds"] = str(BOOT_TIMEOUT)
    return annotations


def _claim_templates(spec: VirtualMachineSpec, storage_class: str) -> str:
    """The volume, as the JSON text from which Harvester makes the PersistentVolumeClaim."""
    claim = {
        "metadata": {"name": spec.claim, "annotations": {"harvesterhci.io/imageId": spec.image}},
        "spec": {
            "accessModes": ["ReadWriteMany"],  # what live migration needs
            "resources": {"requests": {"storage": quantity(spec.disk)}},
            "volumeMode": "Block",
            "storageClassName": storage_class,
        },
    }
    return json.dumps([claim], separators=(",", ":"))


def _template(spec: VirtualMachineSpec) -> dict[str, Any]:
    return {
        "metadata": {
            "labels": {"harvesterhci.io/creator": "sitewright", "harvesterhci.io/vmName": spec.name},
        },
        "spec": {
            "hostname": spec.name,
            "evictionStrategy": "LiveMigrateIfPossible",
            "terminationGracePeriodSeconds": SHUTDOWN_GRACE,
            "domain": _domain(spec),
            "networks": [{"name": _NIC, "multus": {"networkName": spec.network}}],
            "volumes": _volumes(spec),
        },
    }


def _domain(spec: VirtualMachineSpec) -> dict[str, Any]:
    return {
        "machine": {"type": "q35"},
        "cpu": {"cores": spec.cpus, "sockets": 1, "threads": 1},
        "memory": {"guest": quantity(spec.memory - _EMULATOR_MEMORY)},
        "resources": {"limits": {"cpu": str(spec.cpus), "memory": quantity(spec.memory)}},
        "devices": {
            "disks": [
                {"name": "root", "bootOrder": 1, "disk": {"bus": "virtio"}},
                {"name": "cloudinitdisk", "disk": {"bus": "virtio"}},
            ],
            "interfaces": [{"name": _NIC, "model": "virtio", "bridge": {}, "macAddress": spec.mac}],
        },
    }


def _volumes(spec: VirtualMachineSpec) -> list[dict[str, Any]]:
    secret = {"name": spec.cloud_init_secret}
    return [
        {"name": "root", "persistentVolumeClaim": {"claimName": spec.claim}},
        {"name": "cloudinitdisk", "cloudInitNoCloud": {"secretRef": secret, "networkDataSecretRef": secret}},
    ]
