"""The disk image VMs start from, imported by the hypervisor (Harvester) from a URL."""

from typing import Any

import pulumi
from pydantic import Field

from modules.manifest import Manifest
from modules.spec import DNS_LABEL, SHA512, Model
from sitewright.site.names import VM_IMAGE_NAME_LENGTH

# Long enough that two versions never meet, short enough for a label value (63) behind a readable name.
_DIGEST_LENGTH = 12
# The import is over, well or not: pulumi-kubernetes (4.25) cannot be told of a condition that means failure, and
# would wait for the good one until its timeout, with no word of the reason.
IMPORT_ENDED = (
    'jsonpath={.status.conditions[?@.status=="True"&&(@.type=="Imported"||@.type=="RetryLimitExceeded")]}'
)


class VmImageSpec(Model):
    name: str = Field(
        pattern=DNS_LABEL, max_length=VM_IMAGE_NAME_LENGTH, description="what the site file calls the image"
    )
    namespace: str = Field(pattern=DNS_LABEL, description="where the image object lives")
    url: str = Field(pattern=r"^https?://[^\s/]+/\S+$", description="reached from the hypervisor")
    checksum: str = Field(
        pattern=SHA512, description="SHA-512 of the file, 128 hexadecimal digits, lower case"
    )
    import_timeout: int = Field(600, ge=10, description="seconds; enough for 30 GB at 500 Mbit/s")
    retries: int = Field(3, ge=0, le=10, description="failed imports before the hypervisor gives up")

    @property
    def object_name(self) -> str:
        """Name and digest: the URL of an image cannot change, so another content is another object."""
        return f"{self.name}-{self.checksum[:_DIGEST_LENGTH]}"

    @property
    def id(self) -> str:
        """How a volume refers to the image: `namespace/object name`."""
        return f"{self.namespace}/{self.object_name}"


def render(spec: VmImageSpec) -> list[dict[str, Any]]:
    """The VirtualMachineImage, awaited until its content is there and found right, or the hypervisor gave up.

    Source: Harvester's image API, harvesterhci.io/v1beta1.
    """
    return [
        {
            "apiVersion": "harvesterhci.io/v1beta1",
            "kind": "VirtualMachineImage",
            "metadata": {
                "name": spec.object_name,
                "namespace": spec.namespace,
                "annotations": {
                    "pulumi.com/waitFor": IMPORT_ENDED,
                    "pulumi.com/timeoutSeconds": str(spec.import_timeout),
                },
            },
            "spec": {
                "displayName": spec.object_name,
                "sourceType": "download",
                "url": spec.url,
                "checksum": spec.checksum,
                "retry": spec.retries,
            },
        }
    ]


class VmImage(pulumi.ComponentResource):
    """An imported image.

    image_id:      `namespace/object`, what `VirtualMachineSpec.image` takes; known in a preview.
    storage_class: the class that makes volumes from this image; the hypervisor invents its name.
    """

    def __init__(self, spec: VmImageSpec, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("sitewright:modules:VmImage", spec.name, None, opts)
        [manifest] = render(spec)
        image = Manifest(manifest, name=spec.name, opts=pulumi.ResourceOptions(parent=self))
        self.image_id = spec.id
        self.storage_class = image.status.apply(lambda status: _storage_class(spec, status))
        self.register_outputs({"image_id": self.image_id, "storage_class": self.storage_class})


def _storage_class(spec: VmImageSpec, status: dict[str, Any]) -> str:
    """Raises: RunError with the hypervisor's reason, where it gave the import up."""
    conditions = {entry["type"]: entry for entry in status.get("conditions", ())}
    given_up = conditions.get("RetryLimitExceeded", {})
    if given_up.get("status") == "True" and conditions.get("Imported", {}).get("status") != "True":
        raise pulumi.RunError(
            f"VM image {spec.name}: the hypervisor gave up importing it: {given_up.get('message', 'no reason')}\n"
            f"  Mend the cause. With the same checksum, delete VirtualMachineImage {spec.id} on the hypervisor, "
            "which does not try again by itself, and run `pulumi up --refresh`."
        )
    return str(status["storageClassName"])
