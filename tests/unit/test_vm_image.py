"""The VmImage module."""

from typing import Any

import pulumi
import pytest
from pydantic import ValidationError

from modules.machines.vm_image import IMPORT_ENDED, VmImageSpec, _storage_class, render

CHECKSUM = "04d82f49fce0" + 116 * "0"
VALID = {
    "name": "debian-12",
    "namespace": "lab",
    "url": "http://10.77.0.1:8080/vm/debian-12.squashfs",
    "checksum": CHECKSUM,
}


def test_the_object_is_named_by_content_and_awaited_until_its_import_ended() -> None:
    [manifest] = render(VmImageSpec.model_validate(VALID))
    assert manifest == {
        "apiVersion": "harvesterhci.io/v1beta1",
        "kind": "VirtualMachineImage",
        "metadata": {
            "name": "debian-12-04d82f49fce0",
            "namespace": "lab",
            "annotations": {"pulumi.com/waitFor": IMPORT_ENDED, "pulumi.com/timeoutSeconds": "600"},
        },
        "spec": {
            "displayName": "debian-12-04d82f49fce0",
            "sourceType": "download",
            "url": VALID["url"],
            "checksum": CHECKSUM,
            "retry": 3,
        },
    }


def test_another_content_is_another_object() -> None:
    one = VmImageSpec.model_validate(VALID)
    other = VmImageSpec.model_validate({**VALID, "checksum": 128 * "1"})
    assert one.id != other.id and one.id == "lab/debian-12-04d82f49fce0"


def status(imported: str, given_up: str, message: str) -> dict[str, Any]:
    """As Harvester writes it (its image operator): the reason stands with the limit, and stays there."""
    conditions = [
        {"type": "Initialized", "status": "True"},
        {"type": "Imported", "status": imported},
        {"type": "RetryLimitExceeded", "status": given_up, "message": message},
    ]
    return {"storageClassName": "lh-1", "conditions": conditions}


def test_an_import_that_was_given_up_is_an_error_with_the_reason_of_the_hypervisor() -> None:
    given_up = status("False", "True", "retry attempted 3/3 failed due to error: 404 Not Found")
    with pytest.raises(pulumi.RunError, match=r"VM image debian-12: .*retry attempted 3/3 .* 404 Not Found"):
        _storage_class(VmImageSpec.model_validate(VALID), given_up)


def test_an_import_that_went_well_after_a_failure_is_no_error() -> None:
    done = status("True", "False", "failed due to error: 404 Not Found")
    assert _storage_class(VmImageSpec.model_validate(VALID), done) == "lh-1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checksum": "d41d8cd98f00b204e9800998ecf8427e"}, "checksum\n.*pattern"),
        ({"checksum": CHECKSUM.upper().replace("0", "A")}, "checksum\n.*pattern"),
        ({"url": "file:///debian-12.squashfs"}, "url\n.*pattern"),
        ({"url": "http://10.77.0.1:8080/"}, "url\n.*pattern"),
        ({"name": "Debian"}, "name\n.*pattern"),
        ({"retries": 11}, "retries\n.*less than or equal to 10"),
        ({"sha512": CHECKSUM}, "sha512\n.*Extra inputs"),
    ],
)
def test_a_wrong_spec_is_refused_by_the_field_that_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        VmImageSpec.model_validate({**VALID, **changes})
