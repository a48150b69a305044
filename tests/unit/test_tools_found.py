"""Which programs of the machine replace built ones: stand-ins that only print a version."""

from __future__ import annotations

from pathlib import Path

import pytest

from sitewright.errors import SitewrightError
from tools.build import Builder
from tools.found import find
from tools.launchers import write_launcher
from tools.pins import MODULES, PULUMI, PULUMI_KUBERNETES, PULUMI_RANDOM


def program(directory: Path, name: str, says: str = "") -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def official_pulumi(directory: Path, version: str = PULUMI) -> Path:
    program(directory, "pulumi", f"v{version}")
    program(directory, "pulumi-language-python")
    return directory


def test_an_official_pulumi_on_path_is_used_with_its_host_and_plugins(tmp_path):
    directory = official_pulumi(tmp_path / "bin", "3.999.0")
    plugins = tmp_path / "home" / "plugins"
    program(plugins / f"resource-random-v{PULUMI_RANDOM}", "pulumi-resource-random")
    program(plugins / f"resource-kubernetes-v{PULUMI_KUBERNETES}", "pulumi-resource-kubernetes")
    program(directory, "kubectl", "Client Version: v1.37.2")  # lies beside pulumi, was not offered to us
    environ = {"PATH": f"/nowhere:{directory}", "PULUMI_HOME": str(tmp_path / "home")}
    programs, refused = find(environ, MODULES)
    assert set(programs) == {
        "pulumi",
        "pulumi-language-python",
        "pulumi-resource-random",
        "pulumi-resource-kubernetes",
    }
    assert programs["pulumi"].version == "3.999.0"
    assert refused == []


@pytest.mark.parametrize("version", ["3.200.0", "4.0.0", "2.999.0"])
def test_an_official_pulumi_of_another_version_is_left_with_a_reason(tmp_path, version):
    directory = official_pulumi(tmp_path, version)
    programs, refused = find({"PATH": str(directory)}, MODULES)
    assert programs == {}
    assert [(one.path.name, one.reason) for one in refused] == [
        ("pulumi", f"reports {version}, {PULUMI} is pinned")
    ]


def test_a_pulumi_without_a_language_host_is_no_official_installation(tmp_path):
    program(tmp_path, "pulumi", f"v{PULUMI}")
    assert find({"PATH": str(tmp_path)}, MODULES) == ({}, [])


def test_our_own_bin_directory_on_path_is_never_taken_for_an_official_installation(tmp_path):
    ours = official_pulumi(tmp_path / "ours")
    (ours / "sitewright-tools.json").write_text("{}")
    assert find({"PATH": str(ours)}, MODULES) == ({}, [])
    real = official_pulumi(tmp_path / "real")
    programs, _ = find({"PATH": f"{ours}:{real}"}, MODULES)
    assert programs["pulumi"].path.parent == real


def test_named_directories_are_searched_in_order_and_kubernetes_must_be_the_same_minor(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    program(one, "kubelet", "Kubernetes v1.38.0")
    program(two, "kubelet", "Kubernetes v1.37.9")
    program(one, "bridge", "CNI bridge plugin v1.9.1")
    program(two, "cni/bridge", "CNI bridge plugin v1.9.7")
    program(one, "crane", "no number at all")
    programs, refused = find({"SITEWRIGHT_TOOLS": f"{one}:{two}"}, MODULES)
    assert {name: found.path for name, found in programs.items()} == {
        "kubelet": two / "kubelet",
        "cni/bridge": one / "bridge",
    }
    assert {one.path.name: one.reason for one in refused} == {
        "kubelet": "reports 1.38.0, 1.37.2 is pinned",
        "crane": "reports no version, 0.22.1 is pinned",
    }


def test_our_launchers_in_a_named_directory_are_not_taken_for_official_programs(tmp_path):
    program(tmp_path, "pulumi", f"v{PULUMI}")
    write_launcher(tmp_path, "pulumi-language-python")
    programs, _ = find({"SITEWRIGHT_TOOLS": str(tmp_path)}, MODULES)
    assert set(programs) == {"pulumi"}


def test_a_directory_with_everything_needs_no_compiler(tmp_path, monkeypatch):
    named = tmp_path / "named"
    wanted = tuple(module for module in MODULES if module.name in ("kube-router", "cni-plugins", "pause"))
    for one in (one for module in wanted for one in module.programs):
        program(named, one.name, f"version {one.version}")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    environ = {"SITEWRIGHT_TOOLS": str(named)}
    directory = Builder(root=tmp_path / "tools", environ=environ, modules=wanted).build()
    assert (directory / "kube-router").resolve() == named / "kube-router"
    assert (directory / "cni" / "portmap").resolve() == named / "cni" / "portmap"


def test_another_program_in_a_named_directory_makes_another_bin_directory(tmp_path):
    path = program(tmp_path / "named", "kubectl", "Client Version: v1.37.2")
    builder = Builder(root=tmp_path / "tools", environ={"SITEWRIGHT_TOOLS": str(path.parent)})
    before = builder.plan().directory
    program(tmp_path / "named", "kubectl", "Client Version: v1.37.20")
    assert builder.plan().directory != before


def test_a_named_directory_that_does_not_exist_is_an_error(tmp_path):
    builder = Builder(root=tmp_path / "tools", environ={"SITEWRIGHT_TOOLS": "/no/such"})
    with pytest.raises(SitewrightError, match="SITEWRIGHT_TOOLS: /no/such is not a directory"):
        builder.plan()
