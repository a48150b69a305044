"""`sitewright nodes replace` against the lab's provisioner: a node has one MAC address, that of the site file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from click.testing import CliRunner

from sitewright.cli import main
from sitewright.provisioning.openchami import Boot
from sitewright.site import load
from tests.contracts.pools import Pool, publish
from tests.contracts.test_openchami import Site
from tests.contracts.test_provisioner import Provisioner

FIRST, SECOND = "x1000c0s0b0n0", "x1000c0s0b1n0"
MAC = "02:00:00:00:00:99"
REPOSITORY = Path(__file__).parents[2]


class Swapped(Site):
    """The lab's pool is declared; its site file is one of the test's."""

    def __init__(self, directory: Path, provisioner: Provisioner) -> None:
        super().__init__(provisioner)
        self.file = directory / "lab.yaml"
        self._document = yaml.safe_load((REPOSITORY / "environments/lab.yaml").read_text())
        publish(self._document, provisioner.urls)
        self.says({})
        nodes = [vars(node) for node in load(self.file).nodes]
        self.write.declare(Pool("gpu", "svc", nodes, Boot("http://10.0.0.1/k", "http://10.0.0.1/i", []), ""))

    def says(self, overrides: dict[str, Any]) -> None:
        self._document["pools"][0]["overrides"] = overrides
        self.file.write_text(yaml.safe_dump(self._document))

    def macs(self, xname: str) -> list[str]:
        found = self.send("smd", "GET", "/hsm/v2/Inventory/EthernetInterfaces")
        return [one["MACAddress"] for one in found if one["ComponentID"] == xname]

    def boots(self, mac: str) -> bool:
        answer = httpx.get(f"{self._urls['bss']}/boot/v1/bootscript?mac={mac}", trust_env=False)
        return answer.is_success and "http://10.0.0.1/k" in answer.text

    def replace(self, *words: str, status: int = 0) -> str:
        done = CliRunner().invoke(main, ["nodes", "replace", str(self.file), *words])
        assert done.exit_code == status, f"{done.output}\n{done.exception!r}"
        return done.output


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Swapped]:
    with Provisioner(tmp_path / "provisioner.db") as running:
        yield Swapped(tmp_path, running)


def test_the_new_blade_boots_and_the_old_one_no_longer(site: Swapped) -> None:
    [old] = site.macs(FIRST)
    other = site.macs(SECOND)
    site.says({FIRST: {"mac": MAC}})
    assert f"would be changed: MAC address {old} of {FIRST}" in site.replace(FIRST, "--mac", MAC, "--dry-run")
    assert site.macs(FIRST) == [old]
    output = site.replace(FIRST, "--mac", MAC.upper().replace(":", "-"))
    assert f"changed: MAC address {old} of {FIRST}" in output
    assert f"changed: Redfish endpoints of {FIRST}" in output
    assert site.macs(FIRST) == [MAC]
    assert site.macs(SECOND) == other
    assert site.boots(MAC) and not site.boots(old)
    assert site.send("smd", "GET", "/hsm/v2/groups/gpu")["members"]["ids"] == [FIRST, SECOND]
    assert "Nothing to do" in site.replace(FIRST, "--mac", MAC)


def test_interrupted_after_the_old_address_went_it_goes_on(site: Swapped) -> None:
    [old] = site.macs(FIRST)
    site.says({FIRST: {"mac": MAC}})
    site.send("smd", "DELETE", f"/hsm/v2/Inventory/EthernetInterfaces/{old.replace(':', '')}")
    site.replace(FIRST, "--mac", MAC)
    assert site.macs(FIRST) == [MAC]


def test_what_an_update_leaves_behind_goes(site: Swapped) -> None:
    """`pulumi up` declares the new address, and lets the old one be."""
    site.says({FIRST: {"mac": MAC}})
    nodes = [vars(node) for node in load(site.file).nodes]
    site.write.declare(Pool("gpu", "svc", nodes, Boot("http://10.0.0.1/k", "http://10.0.0.1/i", []), ""))
    assert len(site.macs(FIRST)) == 2
    site.replace(FIRST, "--mac", MAC)
    assert site.macs(FIRST) == [MAC]


def test_an_address_of_somebody_else_is_refused(site: Swapped) -> None:
    before = site.everything()
    [other] = site.macs(SECOND)
    assert f"{other} is the MAC address of node {SECOND}" in site.replace(FIRST, "--mac", other, status=1)
    bmc = load(site.file).nodes[0].bmc_mac
    assert "is the MAC address of BMC x1000c0s0b0" in site.replace(FIRST, "--mac", bmc, status=1)
    body = {"MACAddress": MAC, "ComponentID": "x9c0s0b0n0", "IPAddresses": []}
    site.send("smd", "POST", "/hsm/v2/Inventory/EthernetInterfaces", body)
    assert "is the MAC address of x9c0s0b0n0 in the provisioner" in site.replace(
        FIRST, "--mac", MAC, status=1
    )
    site.send("smd", "DELETE", f"/hsm/v2/Inventory/EthernetInterfaces/{MAC.replace(':', '')}")
    assert site.everything() == before


def test_a_site_file_that_says_another_address_is_told_by_its_line(site: Swapped) -> None:
    before = site.everything()
    output = site.replace(FIRST, "--mac", MAC, status=1)
    assert f"pool gpu has to say `overrides: {{{FIRST}: {{mac: {MAC}}}}}`" in output
    site.says({FIRST: {"mac": "02:00:00:00:00:98"}})
    line = next(n for n, text in enumerate(site.file.read_text().splitlines(), 1) if "00:98" in text)
    output = site.replace(FIRST, "--mac", MAC, status=1)
    assert f"lab.yaml:{line}:" in output and f"write `mac: {MAC}`" in output
    assert site.everything() == before


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((FIRST, "--mac", "02:00"), 2, "12 hexadecimal digits are wanted"),
        ((FIRST,), 2, "Missing option '--mac'"),
        (("x9c0s0b0n0", "--mac", MAC), 1, "no node 'x9c0s0b0n0' in site lab"),
    ],
)
def test_bad_arguments_are_refused(site: Swapped, words: tuple[str, ...], status: int, said: str) -> None:
    assert said in site.replace(*words, status=status)
