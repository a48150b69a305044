"""Emulated machines of the lab, as far as they can be looked at without root: the rest is in
tests/contracts/test_network_boot.py, which boots one."""

from pathlib import Path

import pytest
from lab_site import REPOSITORY, plan_below

from lab import checks, configuration, emulator, network_boot
from lab.emulator import EmulatedMachine
from lab.plan import LabPlan
from sitewright.site import load

MACHINE = EmulatedMachine("x1000c0s0b1n0", "nodes", "02:00:00:00:00:01", 2, 9 << 30)
GIB = 2**30


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabPlan:
    """The lab with its second node emulated."""
    monkeypatch.setenv("SITEWRIGHT_LAB_STATE_DIR", str(tmp_path / "state"))
    file = tmp_path / "lab.yaml"
    text = (REPOSITORY / "environments/lab.yaml").read_text()
    assert "  # qemu_nodes: x1000c0s0b1n0" in text
    file.write_text(
        text.replace("/var/lib/sitewright/lab", str(tmp_path / "state")).replace(
            "  # qemu_nodes: x1000c0s0b1n0", "  qemu_nodes: x1000c0s0b1n0"
        )
    )
    return LabPlan(load(file))


def after(option: str, command: list[str]) -> list[str]:
    return [command[index + 1] for index, word in enumerate(command) if word == option]


def test_it_has_the_cores_memory_and_mac_of_the_node_and_no_disk() -> None:
    command = emulator.command(MACHINE, "v-x1000c0s0b1n0")
    assert after("-smp", command) == ["2"] and after("-m", command) == ["9216"]
    assert after("-accel", command) == ["tcg,thread=multi,tb-size=512"], (
        "KVM is rarely there where the lab runs"
    )
    assert after("-netdev", command) == ["tap,id=net,ifname=v-x1000c0s0b1n0,script=no,downscript=no"]
    assert "mac=02:00:00:00:00:01" in after("-device", command)[0]
    assert all("if=pflash" in drive for drive in after("-drive", command))


def test_its_firmware_loads_the_boot_program_itself() -> None:
    """The card's option ROM of QEMU is an iPXE: with it TFTP would never be used."""
    assert emulator.command(MACHINE, "v")[0] == "qemu-system-x86_64"
    assert after("-device", emulator.command(MACHINE, "v"))[0].endswith("romfile=")


def test_a_site_file_that_names_none_has_none(tmp_path: Path) -> None:
    plan = plan_below(tmp_path)
    assert plan.site.emulated_nodes == []
    assert "tftp" not in configuration.dnsmasq(plan)


def test_the_nodes_that_the_site_file_names_boot_by_dhcp_and_tftp(plan: LabPlan, tmp_path: Path) -> None:
    first, second = plan.site.nodes
    assert plan.site.emulated_nodes == [second]
    lines = configuration.dnsmasq(plan).splitlines()
    assert f"dhcp-mac=set:network-boot,{second.mac}" in lines
    assert not [line for line in lines if line.startswith("dhcp-mac=") and first.mac in line]
    assert "enable-tftp=br-nodes" in lines
    assert f"tftp-root={tmp_path}/state/tftp" in lines
    assert "dhcp-boot=tag:network-boot,tag:uefi,tag:!ipxe,snponly.efi" in lines
    assert "dhcp-boot=tag:network-boot,tag:ipxe,first.ipxe" in lines


def test_the_first_script_asks_by_mac_until_it_is_answered(plan: LabPlan) -> None:
    script = network_boot.first_script("http://10.77.0.1:27778/boot/v1/bootscript")
    assert script.startswith("#!ipxe\n")
    assert "chain --autofree http://10.77.0.1:27778/boot/v1/bootscript?mac=${netX/mac} ||\n" in script
    assert script.rstrip().endswith("goto ask")


def test_tftp_serves_the_boot_program_and_the_script(
    plan: LabPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "snponly.efi"
    program.write_bytes(b"MZ")
    monkeypatch.setattr(network_boot, "IPXE", program)
    configuration.write(plan)
    served = tmp_path / "state/tftp"
    assert (served / "snponly.efi").read_bytes() == b"MZ"
    assert "http://10.77.0.1:27778/boot/v1/bootscript" in (served / "first.ipxe").read_text()


def test_missing_firmware_comes_with_the_command_that_installs_it(tmp_path: Path) -> None:
    there = tmp_path / "qemu"
    there.touch()
    [problem] = checks.missing_files(
        {str(there): "qemu-system-x86", "/nonexistent/OVMF.fd": "ovmf"}, "lab.qemu_nodes"
    )
    assert problem.message == "for `lab.qemu_nodes` these files are missing: /nonexistent/OVMF.fd"
    assert "apt-get install -y --no-install-recommends ovmf`" in problem.hint
    assert checks.missing_files({str(there): "qemu-system-x86"}, "lab.qemu_nodes") == []


def test_an_emulated_node_needs_memory_for_its_emulator_too(plan: LabPlan) -> None:
    [problem] = checks.too_little_memory(plan, available=5 * GIB, used=0)
    assert "22.0 GiB are needed" in problem.message


def test_the_packages_are_installed_with_the_others() -> None:
    packages = (REPOSITORY / "images/lab-packages.txt").read_text().split()
    assert set(checks.EMULATOR.values()) <= set(packages)
