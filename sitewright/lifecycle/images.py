"""Which boot image a node runs, which one it boots next, and how it is told another one.

A node is told by the digest of its image (`sha256:…`), which is also the directory that the image is published in.
"""

import re
from pathlib import Path

from sitewright.artifacts import boot_images, image_signatures
from sitewright.artifacts.boot_images import SHOWN, BootImage
from sitewright.errors import SitewrightError
from sitewright.lifecycle.cluster_node import ClusterNode
from sitewright.provisioning.boot import Boot
from sitewright.provisioning.openchami import Known
from sitewright.site import Pool, Site

# What a node says (playbooks/roles/boot_node/files/node_annotations.py): the image counts for the boot beside it.
IMAGE_ANNOTATION = "sitewright.dev/boot-image"
BOOT_ANNOTATION = "sitewright.dev/boot-id"

_IN_URL = re.compile(r"/([0-9a-f]{64})/")


def running(node: ClusterNode | None) -> str:
    """Digest of the image that a node runs; "" where that is not known: it has said nothing since it booted."""
    if node is None or not node.boot_id or node.annotations.get(BOOT_ANNOTATION) != node.boot_id:
        return ""
    said = node.annotations.get(IMAGE_ANNOTATION, "")
    return said if said.startswith("sha256:") else ""


def boots_next(known: Known | None) -> str:
    """Digest of the image that the provisioner has for a node; "" for none, or one that has no digest in its URL."""
    found = _IN_URL.search(known.kernel) if known else None
    return f"sha256:{found[1]}" if found else ""


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:SHOWN] or "unknown"


def published(site: Site, digest: str) -> BootImage:
    """The published image whose digest begins so.

    Raises: SitewrightError where there is none, or several, or the site's key did not sign it as it is.
    """
    if site.image_server is None:
        raise SitewrightError(f"the site {site.name} has no `image_server`", "Add it to the site file.")
    found = boot_images.find(boot_images.published(Path(site.image_server.publish_dir), {}), digest)
    if site.image_server.signing_key is not None:
        image_signatures.verify_published(found.directory, Path(site.image_server.signing_key))
    return found


def boot_of(site: Site, pool: Pool, image: BootImage) -> Boot:
    """What the provisioner is told for nodes of the pool that boot the image.

    The same as `pulumi up` tells it (playbooks/roles/boot_image/tasks/return.yml; a unit test compares the two).
    """
    assert site.image_server is not None
    place = f"{site.image_server.url}/{image.digest}"
    arguments = [
        f"root=live:{place}/rootfs.squashfs",
        f"sitewright.root=sha256:{image.manifest['files']['rootfs.squashfs']}",
        *image.manifest["kernel_arguments"],
        *site.kernel_arguments(pool),
    ]
    return Boot(f"{place}/vmlinuz", f"{place}/initramfs.img", arguments)
