"""VirtualMachineImage: imported, checked, asked for again, and kept while it is in use, as Harvester does."""

import pytest
from hypervisor_client import CHECKSUM, CONTENT, Hypervisor

from lab.hypervisor import conditions, places
from lab.hypervisor.api import (
    CLAIM,
    IMAGE,
    STORAGE_CLASS,
    VIRTUAL_MACHINE,
    ApiError,
    Key,
)


def test_an_image_is_imported_and_gets_a_storage_class(hypervisor: Hypervisor) -> None:
    key = hypervisor.import_image()
    image = hypervisor.see(IMAGE, key, "imported", lambda image: conditions.holds(image, "Imported"))
    status, uid = image["status"], image["metadata"]["uid"]
    assert (status["progress"], status["size"], status["virtualSize"]) == (100, len(CONTENT), len(CONTENT))
    assert status["storageClassName"] == f"lh-{uid}"
    assert conditions.holds(image, "Initialized") and not conditions.holds(image, "RetryLimitExceeded")
    assert image["metadata"]["labels"] == {"harvesterhci.io/imageDisplayName": key.name}
    assert hypervisor.api.get(STORAGE_CLASS, Key("", f"lh-{uid}"))
    assert places.image_file(uid).read_bytes() == CONTENT
    assert places.image_mount(uid) in hypervisor.host.mounted


def test_an_image_with_a_wrong_checksum_is_not_imported(hypervisor: Hypervisor) -> None:
    key = hypervisor.import_image(checksum=128 * "a", retries=0)
    image = hypervisor.see(IMAGE, key, "failed", lambda image: conditions.holds(image, "RetryLimitExceeded"))
    assert not conditions.holds(image, "Imported")
    message = conditions.message(image, "Imported")
    assert CHECKSUM in message and 128 * "a" in message and hypervisor.images.url("debian") in message
    assert image["status"]["failed"] == 1
    uid = image["metadata"]["uid"]
    assert not list(places.image_file(uid).parent.glob(f"{uid}*"))


def test_an_image_server_that_was_down_is_asked_again(hypervisor: Hypervisor) -> None:
    hypervisor.images.down = True
    key = hypervisor.import_image()
    image = hypervisor.see(IMAGE, key, "failed", lambda image: image.get("status", {}).get("failed", 0) >= 1)
    assert "503" in conditions.message(image, "Imported")
    hypervisor.images.down = False
    hypervisor.see(IMAGE, key, "imported", lambda image: conditions.holds(image, "Imported"))


def test_a_download_that_was_cut_off_goes_on_where_it_stopped(hypervisor: Hypervisor) -> None:
    hypervisor.images.cut_at = 100_000
    key = hypervisor.import_image()
    hypervisor.see(IMAGE, key, "imported", lambda image: conditions.holds(image, "Imported"))
    assert hypervisor.images.requests == [None, "bytes=100000-"]


def test_the_address_of_an_image_cannot_be_changed(hypervisor: Hypervisor) -> None:
    key = hypervisor.import_image()
    with pytest.raises(ApiError, match="a new version is a new object"):
        hypervisor.api.patch(IMAGE, key, {"spec": {"url": "http://10.1.0.1/other.squashfs"}})


def test_an_image_cannot_be_deleted_while_a_volume_uses_it(hypervisor: Hypervisor) -> None:
    machine = hypervisor.start_machine()
    hypervisor.see_ready(machine)
    [image] = hypervisor.api.list(IMAGE, hypervisor.place)
    key, uid = Key(hypervisor.place, image["metadata"]["name"]), image["metadata"]["uid"]
    with pytest.raises(ApiError, match=f"volume {machine.name}-root uses it"):
        hypervisor.delete(IMAGE, key)
    hypervisor.delete(VIRTUAL_MACHINE, machine)
    hypervisor.see_gone(VIRTUAL_MACHINE, machine)
    hypervisor.delete(IMAGE, key)
    hypervisor.see_gone(IMAGE, key)
    assert not places.image_file(uid).exists() and places.image_mount(uid) not in hypervisor.host.mounted
    assert hypervisor.api.get(STORAGE_CLASS, Key("", f"lh-{uid}")) is None


def test_an_image_that_a_volume_elsewhere_uses_stays_until_that_is_deleted(hypervisor: Hypervisor) -> None:
    image = hypervisor.import_image()
    body = hypervisor.see(IMAGE, image, "imported", lambda image: conditions.holds(image, "Imported"))
    claim = {
        "metadata": {
            "name": hypervisor.place,
            "namespace": "default",
            "annotations": {"harvesterhci.io/imageId": str(image)},
        },
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": body["status"]["storageClassName"],
        },
    }
    hypervisor.api.create(CLAIM, claim)
    key = Key("default", hypervisor.place)
    hypervisor.see(CLAIM, key, "bound", lambda claim: claim["status"].get("phase") == "Bound")
    hypervisor.delete(IMAGE, image)
    hypervisor.see(IMAGE, image, "marked as deleted", lambda image: "deletionTimestamp" in image["metadata"])
    assert places.image_file(body["metadata"]["uid"]).exists()
    hypervisor.delete(CLAIM, key)
    hypervisor.see_gone(IMAGE, image)
