"""A site with boot-service instead of BSS: what its nodes, their service and the procedures about them are told."""

import json

import pytest

from tests.stacks.engine import Run, plain

CHANGES = [
    ("  bss: http://10.77.0.1:27778 ", "  boot_service: http://10.77.0.1:27776 "),
    ('{name: bss, to: ["10.77.0.1:27778"]', '{name: boot-service, to: ["10.77.0.1:27776"]'),
]


@pytest.fixture(scope="module")
def sites(program, site_file) -> tuple[Run, Run]:
    """The lab, and the same after its site file changed."""
    file = site_file("lab")
    before = program(file)
    text = file.read_text()
    for old, new in CHANGES:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return before, program(file)


@pytest.fixture
def with_bss(sites: tuple[Run, Run]) -> Run:
    return sites[0]


@pytest.fixture
def without_bss(sites: tuple[Run, Run]) -> Run:
    return sites[1]


def service(run: Run) -> dict[str, str]:
    """The environment of the identity service."""
    [pod] = [
        plain(inputs)["spec"]["template"]["spec"]
        for name, inputs in run.of("DaemonSet").items()
        if name == "svc-node-identity-daemonset"
    ]
    return {one["name"]: one.get("value", "") for one in pod["containers"][0]["env"]}


def told(run: Run, name: str) -> dict:
    found: dict = plain(run.playbooks()[name]["variables"])
    return found


def test_nodes_give_notice_of_their_boots_where_the_service_cannot_ask_bss(without_bss: Run, with_bss: Run):
    assert "BSS" not in service(without_bss) and service(with_bss)["BSS"] == "http://10.77.0.1:27778"
    assert json.loads(told(without_bss, "join-gpu")["settings"])["boot_notice"] is True
    assert "boot_notice" not in json.loads(told(with_bss, "join-gpu")["settings"])
    assert "boot_notice" in str(plain(without_bss.declared("CloudInitGroup")["gpu-cloud-init"]))


def test_the_procedure_that_has_nodes_forgotten_speaks_to_boot_service(without_bss: Run):
    released = told(without_bss, "release-gpu")
    assert released["boot_service"] == "http://127.0.0.1:27778"  # the port that the lab publishes it at
    assert not released.get("bss")


def test_nothing_else_of_the_site_is_told_otherwise(without_bss: Run, with_bss: Run):
    assert without_bss.resources.keys() == with_bss.resources.keys()
    changed = {found.name for urn, found in without_bss.resources.items() if found != with_bss.resources[urn]}
    assert changed == {"gpu-cloud-init", "join-gpu", "release-gpu", "svc-node-identity-daemonset"}
