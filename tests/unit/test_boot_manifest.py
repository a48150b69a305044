"""The manifest of an image: it follows from what was packed, and its digest from nothing else."""

import json
from pathlib import Path

import pytest
from test_sbom import PRINTED

from sitewright.artifacts import boot_manifest, verity
from sitewright.artifacts.boot_images import published
from sitewright.artifacts.boot_recipe import BootRecipe
from sitewright.artifacts.recipes import file_digest
from sitewright.errors import SitewrightError

RECIPE = BootRecipe(
    distribution="debian",
    release="bookworm",
    date="2026-01-02",
    packages=("bash",),
    layers=(),
    initramfs_modules=("livenet",),
    kernel_arguments=("ip=dhcp",),
    size_budget="1Mi",
    check=("true",),
)


def write(directory: Path, recipe: BootRecipe = RECIPE, root: bytes = bytes(8192)) -> dict:
    out, inside = directory / ("a" * 64), directory / "root"
    out.mkdir(parents=True)
    (inside / "usr/local/bin").mkdir(parents=True)
    (inside / "usr/local/bin/kubelet").write_text("program")
    (inside / "usr/local/bin/link").symlink_to("kubelet")
    (out / "rootfs.squashfs").write_bytes(root)
    (out / "vmlinuz").write_text("kernel")
    (out / "initramfs.img").write_text("initrd")
    return boot_manifest.write(out, "compute", recipe, "5" * 64, "6.1.0-1", PRINTED, inside)


def test_it_says_what_is_in_the_image(tmp_path):
    manifest = write(tmp_path)
    out = tmp_path / ("a" * 64)
    assert manifest["files"] == {name: file_digest(out / name) for name in manifest["files"]}
    assert list(manifest["files"]) == ["rootfs.squashfs", "vmlinuz", "initramfs.img", "sbom.spdx.json"]
    assert manifest["sizes"]["vmlinuz"] == 6
    assert manifest["packages"][0] == "bash=5.2.15-2+b2"
    assert manifest["date"] == "2026-01-02"
    programs = [
        part["name"]
        for part in json.loads((out / "sbom.spdx.json").read_text())["packages"]
        if "checksums" in part
    ]
    assert programs == ["/usr/local/bin/kubelet"]
    [found] = published(tmp_path, {})
    assert found.packages["bash"] == "5.2.15-2+b2"


def test_the_kernel_is_told_how_the_root_proves_itself(tmp_path):
    first, *others = write(tmp_path)["kernel_arguments"]
    name, _, value = first.partition("=")
    assert name == verity.ARGUMENT and others == ["ip=dhcp"]
    verity.verify(tmp_path / ("a" * 64) / "rootfs.squashfs", value)


def test_the_same_files_have_the_same_digest_and_manifest(tmp_path):
    assert write(tmp_path / "one") == write(tmp_path / "two")
    other = write(tmp_path / "three", root=b"x" * 8192)
    assert other["digest"] != write(tmp_path / "four")["digest"]


def test_a_root_above_its_budget_is_refused(tmp_path):
    with pytest.raises(SitewrightError, match=r"rootfs.squashfs has 2 Mi, the recipe allows 1Mi"):
        write(tmp_path, root=bytes(2 << 20))
