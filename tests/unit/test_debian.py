"""Debian roots: which mirrors they come from, and what mmdebstrap is asked for."""

from pathlib import Path

import pytest

from sitewright.artifacts import debian, inside
from sitewright.errors import SitewrightError

TARGETS = """\
http://mirror/debian/ bookworm main
http://mirror/debian/ bookworm-updates main
http://mirror/debian/ bookworm contrib
http://mirror/security/ bookworm-security main
https://packages/other cloud-sdk-bookworm main
https://packages/node nodistro main
"""


def test_mirrors_are_those_of_the_host(monkeypatch):
    monkeypatch.setattr(debian, "_host_release", lambda: "bookworm")
    assert debian.mirrors("bookworm", TARGETS) == [
        "deb http://mirror/debian/ bookworm main",
        "deb http://mirror/debian/ bookworm-updates main",
        "deb http://mirror/security/ bookworm-security main",
    ]


def test_a_host_of_a_newer_debian_builds_from_the_same_mirrors(monkeypatch):
    monkeypatch.setattr(debian, "_host_release", lambda: "trixie")
    targets = TARGETS.replace("bookworm", "trixie")
    assert debian.mirrors("bookworm", targets)[0] == "deb http://mirror/debian/ bookworm main"


def test_a_host_without_a_mirror_of_debian_is_told_so(monkeypatch):
    monkeypatch.setattr(debian, "_host_release", lambda: "noble")
    with pytest.raises(SitewrightError, match="apt on this host has no source for noble main"):
        debian.mirrors("bookworm", TARGETS)


def test_what_apt_warns_of_and_sources_without_components_are_passed_over(monkeypatch):
    monkeypatch.setattr(debian, "_host_release", lambda: "bookworm")
    odd = "W: Target Packages is configured twice\nhttp://packages/flat ./\n"
    assert debian.mirrors("bookworm", odd + TARGETS) == debian.mirrors("bookworm", TARGETS)


@pytest.fixture
def mmdebstrap(tmp_path, monkeypatch):
    """A directory where what stands in for mmdebstrap leaves its arguments and its environment."""
    program = tmp_path / "mmdebstrap"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments; env > {tmp_path}/environment\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(debian, "run_together", inside.run)
    monkeypatch.setattr(debian.os, "geteuid", lambda: 0)
    monkeypatch.setattr(debian, "mirrors", lambda release: [f"deb http://mirror/ {release} main"])
    return tmp_path


def test_mmdebstrap_is_asked_for_all_of_it(mmdebstrap):
    options = {"apt_options": [debian.NO_RECOMMENDS], "exclude": ["/usr/share/man/*", "/usr/share/doc/*"]}
    environment = {"INITRD": "No"}
    debian.make_root(Path("/new"), "bookworm", ["a", "b"], "apt", environment=environment, **options)
    assert (mmdebstrap / "arguments").read_text().splitlines() == [
        "--verbose",
        "--mode=root",
        "--variant=apt",
        '--aptopt=APT::Install-Recommends "false"',
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--include=a,b",
        "bookworm",
        "/new",
        "deb http://mirror/ bookworm main",
    ]
    assert "INITRD=No" in (mmdebstrap / "environment").read_text().splitlines()


def test_a_failure_says_which_root_what_was_printed_and_what_to_do(mmdebstrap):
    (mmdebstrap / "mmdebstrap").write_text("#!/bin/sh\necho E: no such package; exit 25\n")
    with pytest.raises(SitewrightError) as caught:
        debian.make_root(Path("/new"), "bookworm", ["a"], "apt")
    assert caught.value.message == ("Debian bookworm root in /new with a: exit status 25\nE: no such package")
    assert "apt-get update" in caught.value.hint


def test_without_mmdebstrap_its_package_is_named(mmdebstrap, monkeypatch):
    (mmdebstrap / "mmdebstrap").unlink()
    monkeypatch.setattr(debian, "SEARCH_PATH", str(mmdebstrap))
    with pytest.raises(SitewrightError, match="no program mmdebstrap\n  Install the package mmdebstrap"):
        debian.make_root(Path("/new"), "bookworm", ["a"], "apt")
