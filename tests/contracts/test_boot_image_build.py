"""A boot image is built for real, twice from nothing, and comes out the same; no layer is made without a change."""

import asyncio
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from sitewright.artifacts import image_signatures, signing
from sitewright.provider.failures import RunFailed
from sitewright.provider.progress import NoLog
from sitewright.provider.run import Job, Run, RunResult
from tools.paths import tools_root

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap and mounts need root"),
]

REPOSITORY = Path(__file__).parents[2]
RECIPE = REPOSITORY / "tests/data/boot-images/small/recipe.yaml"


class Operator:
    """Somebody with caches of his own, a recipe that he changes, and a directory that he publishes to."""

    def __init__(self, directory: Path, key: Path) -> None:
        self.cache, self.published, self.key = directory / "cache", directory / "www", key
        self.recipe = directory / "small"
        self.recipe.mkdir(parents=True)
        self.write(RECIPE.read_text())

    def write(self, recipe: str) -> None:
        (self.recipe / "recipe.yaml").write_text(recipe)

    def build(self, playbook: str = "build-boot-image", **more: Any) -> RunResult:
        variables = {
            "image": "small",
            "publish_dir": str(self.published),
            "url": "http://image-server/boot",
            "registry": "http://registry",
            "pause_image": "registry/pause@sha256:1",
            "signing_key": str(self.key),
            "boot_image_cache": str(self.cache),
            "boot_image_recipe_dir": str(self.recipe),
            **more,
        }
        job = Job("build", "urn:test", "run", f"playbooks/{playbook}.yml", None, variables=variables)
        return asyncio.run(Run(job, REPOSITORY, NoLog()).execute())

    def layers(self) -> set[str]:
        return {path.name for path in (self.cache / "layers").iterdir()}

    def manifest(self, digest: str) -> dict[str, Any]:
        return json.loads((self.place(digest) / "manifest.json").read_text())

    def place(self, digest: str) -> Path:
        return self.published / digest.removeprefix("sha256:")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tools, home = tools_root(), tmp_path / "home"
    (home / ".cache/sitewright").mkdir(parents=True)
    (home / ".cache/sitewright/tools").symlink_to(tools)
    monkeypatch.setenv("HOME", str(home))
    return home


def test_the_same_recipe_gives_the_same_image(home: Path, tmp_path: Path) -> None:
    key = tmp_path / "site.key"
    signing.create(key)
    one, two = (Operator(tmp_path / name, key) for name in ("one", "two"))
    first = one.build().results["digest"]
    second = two.build().results["digest"]
    manifest = one.manifest(first)
    assert manifest["files"] == two.manifest(second)["files"]
    assert first == second and manifest == two.manifest(second)
    _it_is_signed_and_described(one, first)
    _nothing_stays_behind(one)
    _a_change_of_the_packing_makes_no_layer_anew(one, first)
    _what_was_changed_by_hand_is_published_again(one, first)
    _without_the_key_nothing_is_published(two, first)


def _it_is_signed_and_described(operator: Operator, digest: str) -> None:
    place = operator.place(digest)
    image_signatures.verify_published(place, operator.key)
    bill = json.loads((place / "sbom.spdx.json").read_text())
    assert {"dracut", "cryptsetup-bin"} <= {part["name"] for part in bill["packages"]}
    log = place.with_name(f"{place.name}.log").read_text()
    assert "== layer base" in log and "== layer initramfs" in log and "Unpacking dracut" in log
    assert not (place / "build.log").exists(), "its times would be in the image"
    listed = subprocess.run(
        ["unsquashfs", "-lls", "-d", "", place / "rootfs.squashfs"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for trace in (
        "/var/log/dpkg.log",
        "/var/lib/systemd/random-seed",
        "/var/cache/apt/pkgcache.bin",
        "/etc/shadow-",
    ):
        assert f" {trace}\n" not in listed
    [identity] = [line for line in listed.splitlines() if line.endswith(" /etc/machine-id")]
    assert identity.split()[2] == "0", "an identity in an image would be every node's"


def _nothing_stays_behind(operator: Operator) -> None:
    assert str(operator.cache) not in Path("/proc/self/mounts").read_text()
    assert not list(operator.cache.glob("*.work"))


def _a_change_of_the_packing_makes_no_layer_anew(operator: Operator, digest: str) -> None:
    before, began = operator.layers(), time.monotonic()
    operator.write(RECIPE.read_text().replace("ip=dhcp", "ip=dhcp, quiet"))
    changed = operator.build().results
    assert time.monotonic() - began < 120, "packing takes seconds; what is installed is there"
    assert operator.layers() == before
    assert changed["digest"] == digest, "the root, the kernel and the initial root are as they were"
    assert "quiet" in changed["kernel_arguments"]


def _what_was_changed_by_hand_is_published_again(operator: Operator, digest: str) -> None:
    signature = signing.signature_path(operator.place(digest) / "manifest.json")
    right = signature.read_text()
    signature.write_text(right.replace("boot image", "any image"))
    found = operator.build("verify-boot-image").results["drift"]
    assert found == [str(signature)]
    operator.build()
    assert signature.read_text() == right


def _without_the_key_nothing_is_published(operator: Operator, digest: str) -> None:
    """The secret half is gone, and the image was never signed with this one."""
    other = operator.key.with_name("other.key")
    signing.create(other)
    other.unlink()
    with pytest.raises(RunFailed, match=r"(?s)other.key: No such file.*images new-key"):
        operator.build(signing_key=str(other))
