"""Which boot images the operator signed: whoever can write to the image server still decides nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from sitewright.artifacts import signing
from sitewright.artifacts.boot_images import MANIFEST
from sitewright.artifacts.boot_manifest import image_digest
from sitewright.artifacts.model_store import damaged_files
from sitewright.errors import SitewrightError


def sign(image: Path, key: Path) -> bool:
    """Sign the image in a directory, unless it is signed already; whether it had to.

    key: of the site, as image_server.signing_key names it. Raises: SitewrightError.
    """
    if not problem(image, key):
        return False
    manifest = json.loads((image / MANIFEST).read_text(encoding="utf-8"))
    comment = f"boot image {manifest['name']} {manifest['digest']}"
    signing.sign(image / MANIFEST, signing.read_secret(key), comment)
    return True


def verify(image: Path, key: Path) -> None:
    """Raises: SitewrightError where not every file of the image is as the holder of the key signed it.

    key: its public half, `<key>.pub`, is all that is read.
    """
    public = signing.read_public(signing.public_path(key))
    signing.verify(image / MANIFEST, public)
    manifest = json.loads((image / MANIFEST).read_text(encoding="utf-8"))
    digest = image_digest(manifest["files"])
    if manifest["digest"] != digest:
        raise SitewrightError(f"{image / MANIFEST}: its files have digest {digest}, not {manifest['digest']}")
    if damaged := damaged_files(image):
        raise SitewrightError(
            f"{image}: {', '.join(damaged)}: not as it was signed",
            "`pulumi up --refresh` publishes it again.",
        )


def verify_published(image: Path, key: Path) -> None:
    """As `verify`, and the directory has the name of what is in it: an older image in its place is refused too."""
    verify(image, key)
    named = json.loads((image / MANIFEST).read_text(encoding="utf-8"))["digest"]
    if named != f"sha256:{image.name}":
        raise SitewrightError(
            f"{image} holds the image {named}", "`pulumi up --refresh` publishes the right one."
        )


def copy(source: Path, target: Path) -> None:
    """The signature alone: the key was changed, and nothing else of the image."""
    name = signing.signature_path(source / MANIFEST).name
    partial = target / f".{name}.partial"
    shutil.copyfile(source / name, partial)
    partial.replace(target / name)


def problem(image: Path, key: Path) -> str:
    """What is wrong with the signature; empty where it is right. Raises: SitewrightError without a public key."""
    public = signing.read_public(signing.public_path(key))
    try:
        signing.verify(image / MANIFEST, public)
    except SitewrightError as error:
        return error.message
    return ""
