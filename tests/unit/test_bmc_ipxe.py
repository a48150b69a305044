"""Boot scripts as a node reads them; the scripts are those the real services were recorded with."""

import json
from pathlib import Path

import pytest

from lab.bmc import image
from lab.bmc.ipxe import BootError, parse
from lab.provisioner.boot_service_script import minimal_script

RECORDS = Path(__file__).parent.parent / "data" / "contracts"
URL = "http://10.77.0.1:27778/boot/v1/bootscript?mac=52:54:00:be:ef:01"


def recorded(service: str, path: str) -> str:
    """The first recorded answer to this request."""
    for file in sorted(RECORDS.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            exchange = json.loads(line)
            if (exchange["request"]["service"], exchange["request"]["path"]) == (service, path):
                return exchange["answer"]["body"]
    raise AssertionError(f"no record of {path}")


def test_a_bss_script_gives_kernel_arguments_and_the_way_to_try_again() -> None:
    script = parse(recorded("bss", "/boot/v1/bootscript?mac=52:54:00:be:ef:01"), URL)
    assert script.kernel == "http://127.0.0.1:9000/abc/vmlinuz"
    assert script.initrd == "http://127.0.0.1:9000/abc/initrd.img"
    assert script.arguments[:4] == (
        "initrd=initrd",
        "root=live:http://127.0.0.1:9000/abc/rootfs.squashfs",
        "ip=dhcp",
        "console=ttyS0",
    )
    assert script.argument("xname") == "x1000c0s0b0n0"
    assert script.sleep == 30
    assert script.chain == "http://127.0.0.1:27778/boot/v1/bootscript?mac=52:54:00:be:ef:01&retry=1"


def test_a_script_for_a_node_the_provisioner_does_not_know_boots_nothing_and_says_when_to_ask_again() -> None:
    script = parse(recorded("bss", "/boot/v1/bootscript?mac=52:54:00:00:00:77"), URL)
    assert (script.kernel, script.sleep) == ("", 10)
    assert "&arch=x86_64&" in script.chain


def test_a_boot_service_script_is_read_through_its_variables() -> None:
    script = parse(recorded("boot-service", "/bootscript?mac=52:54:00:be:ef:01"), URL)
    assert script.kernel == "http://127.0.0.1:9000/vmlinuz"
    assert script.arguments == (
        "root=live:http://127.0.0.1:9000/rootfs.squashfs",
        "a=1&amp;b=2",  # the service escapes it; a node gets what it wrote
        "BOOTIF=01-52-54-00-be-ef-01",
    )


def test_an_error_script_keeps_its_message() -> None:
    script = parse(recorded("boot-service", "/bootscript?mac=52:54:00:00:00:77"), URL)
    assert script.kernel == ""
    assert "contact system administrator" in script.message


def test_a_script_of_boot_service_for_a_node_without_a_configuration_boots_nothing() -> None:
    """It is answered with 200 too, and ends in `boot`."""
    script = parse(minimal_script("52:54:00:be:ef:01"), URL)
    assert script.kernel == "" and "Trying default boot methods" in script.message


@pytest.mark.parametrize(
    "line",
    [
        "ro root=live:http://10.1.0.1:9000/img/rootfs ip=dhcp ds=nocloud-net;s=http://10.1.0.1:8081/cloud-init",
        """x.sources='["url:http://10.1.0.1/c.yml"]' quiet""",
        "a=b||c d=1",
    ],
)
def test_kernel_arguments_arrive_character_for_character(line: str) -> None:
    """Semicolons, quotes and bars are nobody's to interpret."""
    script = parse(f"#!ipxe\nkernel --name kernel http://h/k {line} || goto retry\nboot || goto retry\n", URL)
    assert " ".join(script.arguments) == line


def test_a_page_that_is_no_script_is_refused_with_its_beginning() -> None:
    with pytest.raises(BootError, match="no iPXE script: '<html>busy"):
        parse("<html>busy</html>", URL)


def test_a_relative_chain_is_resolved() -> None:
    assert parse("#!ipxe\nsleep 1\nchain /other\n", URL).chain == "http://10.77.0.1:27778/other"


def script_with(arguments: str) -> str:
    return f"#!ipxe\nkernel http://h/k {arguments}\nboot\n"


def test_root_file_system_and_digest_are_named_by_the_kernel_arguments() -> None:
    digest = "a" * 64
    script = parse(script_with(f"root=live:http://h/r.squashfs sitewright.root=sha256:{digest}"), URL)
    assert image.named_by(script) == ("http://h/r.squashfs", digest)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("quiet", r"no root=live:http://…, but no root="),
        ("root=/dev/sda1", r"but root=/dev/sda1"),
        ("root=live:http://h/r", r"no sitewright.root=sha256:<64 hex digits>, but ''"),
        ("root=live:http://h/r sitewright.root=sha256:ABC", r"but 'sha256:ABC'"),
    ],
)
def test_arguments_that_name_no_root_or_no_digest_are_refused(arguments: str, said: str) -> None:
    with pytest.raises(BootError, match=said):
        image.named_by(parse(script_with(arguments), URL))
