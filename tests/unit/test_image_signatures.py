"""Images that the operator's key did not sign, or that are not as it signed them, are refused."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_boot_manifest import write

from sitewright.artifacts import image_signatures, signing
from sitewright.cli import images as command
from sitewright.cli import main
from sitewright.errors import SitewrightError
from sitewright.lifecycle import images as lifecycle


@pytest.fixture
def key(tmp_path) -> Path:
    signing.create(tmp_path / "site.key")
    return tmp_path / "site.key"


@pytest.fixture
def image(tmp_path, key) -> Path:
    """Published and signed."""
    digest = write(tmp_path)["digest"].removeprefix("sha256:")
    place = tmp_path / "www" / digest
    place.parent.mkdir()
    (tmp_path / ("a" * 64)).rename(place)
    assert image_signatures.sign(place, key)
    return place


def test_an_image_is_signed_once(image, key):
    image_signatures.verify_published(image, key)
    assert not image_signatures.sign(image, key)


def test_who_verifies_needs_the_public_half_alone(image, key):
    key.unlink()
    image_signatures.verify_published(image, key)


@pytest.mark.parametrize("name", ["rootfs.squashfs", "vmlinuz", "initramfs.img", "sbom.spdx.json"])
def test_a_file_that_was_exchanged_is_named(image, key, name):
    (image / name).write_text("of somebody else")
    with pytest.raises(SitewrightError, match=f"{name}: not as it was signed"):
        image_signatures.verify(image, key)


def test_a_manifest_that_was_changed_is_refused(image, key):
    manifest = json.loads((image / "manifest.json").read_text())
    (image / "manifest.json").write_text(json.dumps({**manifest, "kernel_arguments": ["init=/bin/sh"]}))
    with pytest.raises(SitewrightError, match="is not what key"):
        image_signatures.verify(image, key)


def test_an_older_image_in_the_place_of_another_is_refused(image, key):
    other = image.with_name("b" * 64)
    image.rename(other)
    with pytest.raises(SitewrightError, match=f"{'b' * 64} holds the image sha256:"):
        image_signatures.verify_published(other, key)


def test_a_key_that_was_changed_signs_anew(image, key, tmp_path):
    signing.create(tmp_path / "new.key")
    assert "not by the site's" in image_signatures.problem(image, tmp_path / "new.key")
    assert image_signatures.sign(image, tmp_path / "new.key")
    image_signatures.verify(image, tmp_path / "new.key")


def site(image: Path, key: Path | None) -> object:
    server = type("Server", (), {"publish_dir": str(image.parent), "signing_key": key})
    return type("Site", (), {"name": "lab", "image_server": server})


def test_no_node_is_told_of_an_image_that_was_not_signed(image, key):
    assert lifecycle.published(site(image, key), image.name).directory == image
    signing.signature_path(image / "manifest.json").unlink()
    with pytest.raises(SitewrightError, match=r"manifest.json is not signed"):
        lifecycle.published(site(image, key), image.name)
    assert lifecycle.published(site(image, None), image.name).directory == image


def types(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["images", *map(str, words)])
    return done.exit_code, done.output


def test_the_operator_makes_a_key_and_verifies_an_image(tmp_path, monkeypatch, image, key):
    monkeypatch.setattr(command, "load", lambda _: site(image, key))
    assert types("verify", "lab", image.name[:8]) == (
        0,
        f"{image.name[:12]} compute: each file is as it was signed\n",
    )
    (image / "vmlinuz").write_text("of somebody else")
    assert types("verify", "lab", image.name[:8])[0] == 1
    status, said = types("new-key", tmp_path / "another.key")
    assert status == 0 and "image_server.signing_key" in said
    assert types("new-key", tmp_path / "another.key")[0] == 1
    monkeypatch.setattr(command, "load", lambda _: site(image, None))
    status, said = types("verify", "lab", image.name[:8])
    assert status == 1 and "has no `image_server.signing_key`" in said
