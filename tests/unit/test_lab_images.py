"""The VM image: what decides whether it is built."""

import shutil

import pytest

from lab import images, paths
from sitewright.errors import SitewrightError


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for part in ("images/vm", "images/common"):
        shutil.copytree(paths.REPOSITORY / part, tmp_path / part)
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "file",
    [
        "images/vm/debian-12/recipe.yaml",
        "images/vm/debian-12/files/etc/resolv.conf",
        "images/common/machine-prepare.service",
    ],
)
def test_a_change_of_what_goes_in_is_another_image(repository, file):
    before = images.digest("debian-12")
    (repository / file).write_text((repository / file).read_text() + "# more\n")
    assert images.digest("debian-12") != before


def test_a_file_that_became_executable_is_another_image(repository):
    before = images.digest("debian-12")
    (repository / "images/vm/debian-12/files/etc/resolv.conf").chmod(0o755)
    assert images.digest("debian-12") != before


HERE = images.digest("debian-12")


def test_the_place_of_the_checkout_does_not_matter(repository):
    assert repository == paths.REPOSITORY
    assert images.digest("debian-12") == HERE


def test_an_unknown_image_names_those_there_are():
    with pytest.raises(
        SitewrightError, match=r"images/vm/debian-11/recipe.yaml: no such recipe; there are debian-12"
    ):
        images.digest("debian-11")


@pytest.mark.parametrize(
    "name", [path.parent.name for path in (paths.REPOSITORY / "images/vm").glob("*/recipe.yaml")]
)
def test_every_recipe_can_be_read(name):
    assert images._load(name).packages


def test_an_image_in_the_cache_is_not_built(tmp_path, monkeypatch):
    monkeypatch.setenv("SITEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(images, "_build", lambda name, scratch: pytest.fail("it was built"))
    directory = images.cached("debian-12")
    directory.mkdir(parents=True)
    (directory / "SHA512SUMS").touch()
    assert images.vm_image("debian-12") == directory / "debian-12.squashfs"


def test_a_build_that_fails_leaves_no_image(tmp_path, monkeypatch):
    monkeypatch.setenv("SITEWRIGHT_CACHE", str(tmp_path))

    def fail(name, scratch):
        (scratch / "half").touch()
        raise SitewrightError("the mirror is down")

    monkeypatch.setattr(images, "_build", fail)
    with pytest.raises(SitewrightError, match="the mirror is down"):
        images.vm_image("debian-12")
    assert not images.cached("debian-12").exists()
    monkeypatch.setattr(images, "_build", lambda name, scratch: (scratch / "SHA512SUMS").touch())
    assert images.vm_image("debian-12").parent == images.cached("debian-12")
    assert not (images.cached("debian-12") / "half").exists(), "what the failed build left is in the image"
