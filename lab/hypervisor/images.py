"""VirtualMachineImage: a file fetched from a URL, checked, and held until no volume is made from it.

Source: Harvester's image controller: conditions Initialized, Imported, RetryLimitExceeded; a storage class
`lh-<uid>` per image; a failed import is tried again `spec.retry` times.
One difference: after the limit the lab goes on trying, slowly, so that a site whose image server was down
comes up by `pulumi up --refresh` alone.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from lab.hypervisor import conditions, places
from lab.hypervisor.api import (
    CLAIM,
    IMAGE,
    STORAGE_CLASS,
    Api,
    Key,
    Object,
    add_finalizer,
    is_deleting,
    key_of,
    remove_finalizer,
)
from lab.hypervisor.conditions import condition
from lab.hypervisor.download import Interrupted, fetch
from lab.hypervisor.host import Host
from sitewright.errors import SitewrightError

log = logging.getLogger(__name__)

FINALIZER = "wrangler.cattle.io/vm-image-controller"
IMAGE_ANNOTATION = "harvesterhci.io/imageId"  # on a claim: which image its volume starts from
_DISPLAY_NAME_LABEL = "harvesterhci.io/imageDisplayName"
_IN_USE_DELAY = 1.0  # seconds until the next look at an image that cannot go yet
_MAX_BACKOFF = 16.0  # seconds between tries within the limit
_SLOW_RETRY = 20.0  # seconds between tries after it
_REPORT_INTERVAL = 1.0  # seconds between two writes of the progress


def storage_class(image: Object) -> str:
    return f"lh-{image['metadata']['uid']}"


class Images:
    def __init__(self, api: Api, host: Host, stopping: Callable[[], bool] = lambda: False) -> None:
        self._api = api
        self._host = host
        self._stopping = stopping

    def reconcile(self, key: Key, changed: bool) -> float | None:
        image = self._api.get(IMAGE, key)
        if image is None:
            return None
        if is_deleting(image):
            return self._delete(key, image, changed)
        image = self._initialized(key, image)
        if image is None:
            return None
        uid = image["metadata"]["uid"]
        if conditions.holds(image, "Imported") and places.image_file(uid).exists():
            self._host.mount_image(places.image_file(uid), places.image_mount(uid))
            return None
        if (wait := _until_next_try(image)) > 0:
            return wait
        return self._import(key, image)

    def _initialized(self, key: Key, image: Object) -> Object | None:
        """The image with its finalizer, label, storage class and first status."""
        held = add_finalizer(self._api, IMAGE, image, FINALIZER)
        if held is None or conditions.holds(held, "Initialized"):
            return held
        name = storage_class(held)
        self._api.create_if_absent(STORAGE_CLASS, _storage_class_object(name, key))
        label = {"metadata": {"labels": {_DISPLAY_NAME_LABEL: held["spec"]["displayName"]}}}
        self._api.patch(IMAGE, key, label)
        return self._report(key, held, [condition("Initialized", True)], storageClassName=name, progress=0)

    def _import(self, key: Key, image: Object) -> float | None:
        uid, spec = image["metadata"]["uid"], image["spec"]
        log.info("image %s: importing %s", key, spec["url"])
        started = time.monotonic()
        try:
            size = fetch(spec["url"], places.image_file(uid), spec.get("checksum", ""), self._progress(key))
            self._host.mount_image(places.image_file(uid), places.image_mount(uid))
        except Interrupted:
            return 0.0
        except SitewrightError as problem:
            return self._failed(key, image, problem.message)
        log.info("image %s: %d bytes imported in %.1f s", key, size, time.monotonic() - started)
        done = [condition("Initialized", True), condition("Imported", True), _limit_exceeded(False)]
        self._report(key, image, done, progress=100, size=size, virtualSize=size)
        return None

    def _progress(self, key: Key) -> Callable[[int, int | None], bool]:
        """Writes how far the download is, now and then; stops it once nobody wants the image."""
        reported = time.monotonic()

        def progress(there: int, total: int | None) -> bool:
            nonlocal reported
            if self._stopping():
                return False
            if time.monotonic() - reported < _REPORT_INTERVAL:
                return True
            reported = time.monotonic()
            # 100 is for the image that has been checked.
            percent = min(99, there * 100 // total) if total else 0
            change = {"status": {"progress": percent, **({"size": total} if total else {})}}
            image = self._api.patch(IMAGE, key, change, "status")
            return image is not None and not is_deleting(image)

        return progress

    def _failed(self, key: Key, image: Object, message: str) -> float:
        failed = image.get("status", {}).get("failed", 0) + 1
        limit = image["spec"].get("retry", 3)
        log.warning("image %s: try %d failed: %s", key, failed, message)
        state = [
            condition("Initialized", True),
            condition("Imported", False, "ImportFailed", message),
            _limit_exceeded(failed > limit, message),
        ]
        self._report(key, image, state, failed=failed, lastFailedTime=conditions.now(), progress=0)
        return _backoff(failed, limit)

    def _report(
        self, key: Key, image: Object, state: list[conditions.Condition], **fields: Any
    ) -> Object | None:
        known = image.get("status", {}).get("conditions")
        return self._api.patch(
            IMAGE, key, {"status": {**fields, "conditions": conditions.merged(known, state)}}, "status"
        )

    def _delete(self, key: Key, image: Object, changed: bool) -> float | None:
        if used := self._claims_of(key):
            if changed:
                log.info("image %s: stays until %s is deleted", key, used[0])
            return _IN_USE_DELAY
        uid = image["metadata"]["uid"]
        self._host.unmount_image(places.image_mount(uid))
        for file in places.image_file(uid).parent.glob(f"{uid}.*"):
            file.unlink()
        self._api.delete(STORAGE_CLASS, Key("", storage_class(image)))
        remove_finalizer(self._api, IMAGE, image, FINALIZER)
        log.info("image %s: deleted", key)
        return None

    def _claims_of(self, key: Key) -> list[Key]:
        return [
            key_of(claim)
            for claim in self._api.list(CLAIM)
            if claim["metadata"].get("annotations", {}).get(IMAGE_ANNOTATION) == str(key)
        ]


def _until_next_try(image: Object) -> float:
    status = image.get("status", {})
    if not status.get("failed"):
        return 0.0
    pause = _backoff(status["failed"], image["spec"].get("retry", 3))
    return pause - conditions.age(status["lastFailedTime"])


def _backoff(failed: int, limit: int) -> float:
    return _SLOW_RETRY if failed > limit else min(2.0 ** (failed - 1), _MAX_BACKOFF)


def _limit_exceeded(holds: bool, message: str = "") -> conditions.Condition:
    return condition("RetryLimitExceeded", holds, "ImportFailed" if holds else "", message if holds else "")


def _storage_class_object(name: str, image: Key) -> Object:
    """The class of the image's volumes. Without `allowVolumeExpansion` the API refuses to grow them."""
    return {
        "metadata": {"name": name, "annotations": {"harvesterhci.io/image": str(image)}},
        "provisioner": "driver.longhorn.io",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
        "allowVolumeExpansion": True,
    }
