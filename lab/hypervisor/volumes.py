"""PersistentVolumeClaims: made from a VM's annotation, bound to a directory, removed with what is on them.

Source: Harvester's VM controller: missing claims are created and existing ones grown, never shrunk; a claim
outlives its VM unless the annotation `removedPersistentVolumeClaims` names it.
"""

import json
import logging
import shutil
from collections.abc import Iterator

from lab.hypervisor import conditions, places
from lab.hypervisor.api import (
    CLAIM,
    IMAGE,
    VIRTUAL_MACHINE,
    Api,
    Key,
    Object,
    add_finalizer,
    is_deleting,
    key_of,
    remove_finalizer,
)
from lab.hypervisor.images import IMAGE_ANNOTATION, storage_class
from lab.hypervisor.pending import Pending
from lab.hypervisor.quantity import whole

log = logging.getLogger(__name__)

TEMPLATES = "harvesterhci.io/volumeClaimTemplates"
REMOVED = "harvesterhci.io/removedPersistentVolumeClaims"
FINALIZER = "kubernetes.io/pvc-protection"  # the API server puts it on every claim
_IN_USE_DELAY = 1.0  # seconds until the next look at a claim that cannot go yet


class Volumes:
    def __init__(self, api: Api) -> None:
        self._api = api

    def reconcile(self, key: Key, changed: bool) -> float | None:
        claim = self._api.get(CLAIM, key)
        if claim is None:
            return None
        if is_deleting(claim):
            return self._delete(key, claim, changed)
        if image_of(claim) is not None:
            self._bind(claim)
        return None

    def ensure(self, machine: Object) -> None:
        """Make or grow the claims of a VM. Raises Pending where one has to wait for something."""
        namespace = machine["metadata"]["namespace"]
        for template in claim_templates(machine):
            key = Key(namespace, template["metadata"]["name"])
            claim = self._api.get(CLAIM, key)
            if claim is None:
                self._check_image(template)
                claim = self._api.create(CLAIM, _claim(key, template))
            elif is_deleting(claim):
                raise Pending("Provisioning", "VolumeIsDeleted", f"volume {key} is being deleted")
            else:
                claim = self._grown(key, claim, template)
            self._bind(claim)

    def remove_with(self, machine: Object) -> list[Key]:
        """Delete the claims that go with the VM. Returns those that were still there."""
        keys = [Key(machine["metadata"]["namespace"], name) for name in removed_claims(machine)]
        there = [key for key in keys if self._api.get(CLAIM, key)]
        for key in there:
            self._api.delete(CLAIM, key)
            if claim := self._api.get(CLAIM, key):
                self._destroy(key, claim)
        return there

    def _check_image(self, template: Object) -> None:
        """A volume is made from an image that is there, by the class of that image."""
        name = template["metadata"].get("annotations", {}).get(IMAGE_ANNOTATION, "")
        image = self._api.get(IMAGE, Key(*name.split("/", 1))) if "/" in name else None
        if image is None:
            raise Pending("Provisioning", "ImageNotFound", f"there is no image {name!r}")
        if not conditions.holds(image, "Imported"):
            because = conditions.message(image, "Imported")
            raise Pending(
                "Provisioning", "ImageNotImported", f"image {name} is not imported{because and ': '}{because}"
            )
        asked = template["spec"].get("storageClassName", "")
        if asked != storage_class(image):
            message = f"storage class {asked!r} is not the one of image {name}, {storage_class(image)}"
            raise Pending("Provisioning", "WrongStorageClass", message)

    def _grown(self, key: Key, claim: Object, template: Object) -> Object:
        wanted, has = requested(template), requested(claim)
        if wanted < has:
            log.warning("volume %s: has %d bytes, cannot shrink to %d", key, has, wanted)
        if wanted <= has:
            return claim
        log.info("volume %s: grows from %d to %d bytes", key, has, wanted)
        storage = template["spec"]["resources"]["requests"]["storage"]
        return (
            self._api.patch(CLAIM, key, {"spec": {"resources": {"requests": {"storage": storage}}}}) or claim
        )

    def _bind(self, claim: Object) -> None:
        """A claim is a directory: it is bound once that is there."""
        key = key_of(claim)
        places.make_volume(key)
        add_finalizer(self._api, CLAIM, claim, FINALIZER)
        status = {
            "phase": "Bound",
            "accessModes": claim["spec"]["accessModes"],
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
        }
        if claim.get("status", {}) != status:
            self._api.patch(CLAIM, key, {"status": status}, "status")

    def _delete(self, key: Key, claim: Object, changed: bool) -> float | None:
        users = [
            key_of(machine)
            for machine in self._api.list(VIRTUAL_MACHINE, key.namespace)
            if uses(machine, key.name)
        ]
        if users:
            if changed:
                log.info("volume %s: stays until machine %s is deleted", key, users[0])
            return _IN_USE_DELAY
        self._destroy(key, claim)
        return None

    def _destroy(self, key: Key, claim: Object) -> None:
        shutil.rmtree(places.volume(key), ignore_errors=True)
        remove_finalizer(self._api, CLAIM, claim, FINALIZER)
        log.info("volume %s: deleted", key)


def claim_templates(machine: Object) -> list[Object]:
    """The claims the VM's annotation asks for. Raises Pending where the annotation cannot be read."""
    text = machine["metadata"].get("annotations", {}).get(TEMPLATES, "[]")
    try:
        templates = json.loads(text)
        for template in templates:
            requested(template)
            template["metadata"]["name"]
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        message = f"annotation {TEMPLATES} is not a JSON list of claims: {problem!r}"
        raise Pending("Provisioning", "InvalidVolumeClaimTemplates", message) from problem
    return templates


def removed_claims(machine: Object) -> list[str]:
    names = machine["metadata"].get("annotations", {}).get(REMOVED, "").split(",")
    return [name.strip() for name in names if name.strip()]


def image_of(claim: Object) -> Key | None:
    name = claim["metadata"].get("annotations", {}).get(IMAGE_ANNOTATION, "")
    return Key(*name.split("/", 1)) if "/" in name else None


def requested(claim: Object) -> int:
    """Bytes the claim asks for."""
    return whole(claim["spec"]["resources"]["requests"]["storage"])


def uses(machine: Object, claim: str) -> bool:
    return claim in claims_used(machine)


def claims_used(machine: Object) -> Iterator[str]:
    """Names of the claims the VM has as disks."""
    for volume in machine["spec"]["template"]["spec"].get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"]["claimName"]


def _claim(key: Key, template: Object) -> Object:
    metadata = {**template["metadata"], "namespace": key.namespace}
    return {"metadata": metadata, "spec": template["spec"]}
