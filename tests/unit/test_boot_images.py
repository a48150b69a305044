"""Published boot images: who boots them, how two differ, and that none is removed that a node boots."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from sitewright.artifacts import boot_images
from sitewright.cli import images as command
from sitewright.cli import main
from sitewright.errors import SitewrightError
from sitewright.lifecycle.journal import Journal, JournalFile
from sitewright.provisioning.openchami import Known

ARGUMENTS = ["ip=dhcp", "console=ttyS0"]


def publish(root: Path, digest: str, age: int = 0, **more) -> Path:
    """An image that was published `age` seconds after the first."""
    directory = root / digest.ljust(64, "0")
    directory.mkdir()
    manifest = {
        "name": "compute",
        "kernel": "6.1.0-1",
        "kernel_arguments": ARGUMENTS,
        "files": {"rootfs.squashfs": digest, "vmlinuz": "v"},
        "sizes": {"rootfs.squashfs": 3 << 20, "vmlinuz": 1 << 20},
        "packages": ["bash=5.2", "curl=7.88"],
        **more,
    }
    (directory / "manifest.json").write_text(json.dumps(manifest))
    os.utime(directory / "manifest.json", (1e9 + age, 1e9 + age))
    return directory


def booting(directory: Path) -> Known:
    return Known("Ready", "gpu", f"http://10.0.0.1/boot/{directory.name}/vmlinuz")


class Site:
    """A published directory, and what the provisioner says or raises."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known: dict[str, Known] | Exception = {}

    def types(self, *words: str, status: int = 0) -> str:
        done = CliRunner().invoke(main, ["images", *words])
        assert done.exit_code == status, done.output
        return done.output


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    made = Site(tmp_path)

    def known(_):
        if isinstance(made.known, Exception):
            raise made.known
        return made.known

    server = type("Server", (), {"publish_dir": str(tmp_path)})
    site = {"name": "lab", "image_server": server, "pools": [type("Pool", (), {"name": "gpu"})]}
    monkeypatch.setattr(command, "load", lambda _: type("Site", (), site))
    monkeypatch.setattr(command, "find_repository", lambda _: tmp_path / "checkout")
    monkeypatch.setattr(command, "provisioner", lambda _: type("P", (), {"known": known})())
    return made


def test_the_list_says_who_boots_what(site):
    publish(site.root, "aa")
    newer = publish(site.root, "bb", age=60)
    site.known = {"x1000c0s0b1n0": booting(newer), "x1000c0s0b0n0": booting(newer)}
    first, second = site.types("list", "lab").splitlines()[1:]
    assert first.split() == [
        "bb0000000000",
        "compute",
        "6.1.0-1",
        "4",
        "2",
        "2001-09-09",
        "01:47",
        "x1000c0s0b[0-1]n0",
    ]
    assert second.split()[0] == "aa0000000000" and second.split()[-1] == "-"


def test_what_two_images_differ_in_is_told(site):
    publish(site.root, "aa")
    publish(
        site.root,
        "bb",
        kernel="6.1.0-2",
        kernel_arguments=["ip=dhcp", "quiet"],
        packages=["bash=5.3", "jq=1.6"],
    )
    assert site.types("diff", "lab", "aa", "sha256:bb").splitlines() == [
        "kernel: 6.1.0-1 -> 6.1.0-2",
        "kernel argument - console=ttyS0",
        "kernel argument + quiet",
        "rootfs.squashfs: 3,145,728 -> 3,145,728 bytes",
        "package bash: 5.2 -> 5.3",
        "package curl: 7.88 -> absent",
        "package jq: absent -> 1.6",
    ]
    assert site.types("diff", "lab", "aa", "aa") == "They are the same.\n"


@pytest.mark.parametrize(
    ("digest", "says"), [("cc", "no image begins with"), ("", "no image"), ("a", "several")]
)
def test_an_image_that_is_not_there_or_not_one_is_refused(site, digest, says):
    publish(site.root, "aa")
    publish(site.root, "ab")
    assert says in site.types("diff", "lab", digest, "ab", status=1)


def test_only_what_no_node_boots_and_is_not_new_is_removed(site):
    places = [publish(site.root, f"{number:02}", age=number) for number in range(6)]
    other = publish(site.root, "ff", age=-1, name="login")
    site.known = {"x1000c0s0b0n0": booting(places[1])}
    assert site.types("prune", "lab", "--keep", "2", "--dry-run").count("would be removed, 4 MiB") == 3
    assert all(place.exists() for place in places)
    assert site.types("prune", "lab", "--keep", "2").count("removed") == 3
    assert [place.exists() for place in places] == [False, True, False, False, True, True]
    assert other.exists()
    assert "Nothing to remove" in site.types("prune", "lab", "--keep", "2")


def test_what_a_roll_goes_on_to_or_back_to_is_not_removed(site):
    places = [publish(site.root, f"{number:02}", age=number) for number in range(5)]
    old, new = (f"sha256:{place.name}" for place in places[1:3])
    file = JournalFile(site.root / "checkout/.sitewright", "lab", "gpu")
    with file.locked():
        file.write(
            Journal(environment="lab", pool="gpu", target=new, before={"x1": old, "x2": ""}, complete=True)
        )
    site.types("prune", "lab", "--keep", "1")
    assert [place.exists() for place in places] == [False, True, True, False, True]
    file.path.write_text("{")
    assert "no journal of a roll" in site.types("prune", "lab", "--keep", "1", status=1)


def test_a_removal_that_was_interrupted_is_finished_and_is_no_image(site):
    place = publish(site.root, "aa")
    place.rename(site.root / f".{place.name}.removed")
    assert site.types("list", "lab").splitlines()[1:] == []
    site.types("prune", "lab", "--dry-run")
    assert list(site.root.glob(".*.removed"))
    site.types("prune", "lab")
    assert not list(site.root.glob(".*.removed"))


def test_the_log_of_an_image_goes_with_it(site):
    places = [publish(site.root, f"{number:02}", age=number) for number in range(2)]
    for place in places:
        place.with_name(f"{place.name}.log").touch()
    site.types("prune", "lab", "--keep", "1")
    assert [log.name for log in site.root.glob("*.log")] == [f"{places[1].name}.log"]


def test_that_the_root_is_another_one_is_no_change_of_the_arguments(site):
    for digest in ("aa", "bb"):
        publish(site.root, digest, kernel_arguments=[f"sitewright.verity=sha256:{digest}@4096", "ip=dhcp"])
    assert "argument" not in site.types("diff", "lab", "aa", "bb")


def test_without_an_answer_of_the_provisioner_nothing_is_removed(site):
    places = [publish(site.root, f"{number:02}", age=number) for number in range(6)]
    site.known = SitewrightError("bss: GET /boot/v1/bootparameters: no answer")
    assert "no answer" in site.types("prune", "lab", "--keep", "1", status=1)
    assert all(place.exists() for place in places)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"name": "x"}', '{"name": "x", "sizes": {}, "packages": ["bash"]}']
)
def test_a_manifest_that_cannot_be_read_is_named_and_nothing_is_removed(site, text):
    place = publish(site.root, "aa")
    (place / "manifest.json").write_text(text)
    assert f"{place}/manifest.json: no manifest of a boot image" in site.types("prune", "lab", status=1)
    assert place.exists()


def test_what_is_being_published_is_no_image_yet(tmp_path):
    (tmp_path / ".aa.partial").mkdir()
    assert boot_images.published(tmp_path, {}) == []


def test_a_directory_that_this_machine_has_not_is_named(tmp_path):
    with pytest.raises(SitewrightError, match="nowhere: No such file"):
        boot_images.published(tmp_path / "nowhere", {})
