"""What the console of a node says about its boot."""

from pathlib import Path

import pytest

from lab.bmc.console import HINTS, PATIENCE, STAGES, Reading, hint, plain, stuck

LINES = {
    "firmware": '\x1b[2J\x1b[01;01HBdsDxe: loading Boot0001 "UEFI PXEv4 (MAC:020000000001)"',
    "ipxe": "iPXE 1.0.0+git-20190125.36a4c85-5.1 -- Open Source Network Boot Firmware -- http://ipxe.org",
    "script": "http://10.77.0.1:27778/boot/v1/bootscript?mac=02:00:00:00:00:01... ok",
    "kernel": "http://10.77.0.1:8080/boot/c8c9/vmlinuz... 12%",
    "initrd": "[    0.000000] Linux version 6.1.0-57-cloud-amd64 (debian-kernel@lists.debian.org)",
    "root": "sitewright: the root file system matches sitewright.verity=sha256:ece4@167550976",
    "cloud-init": "[   31.337] cloud-init[301]: Cloud-init v. 22.4.2 running 'init-local' at Mon, 30 Nov 2026",
    "join": "         Starting \x1b[0;1;39mnode-join.service\x1b[0m - Get this node's identity in its cluster...",
    "kubelet": "[  236.630479] node-join[911]: x1000c0s0b1n0 has its identity",
    "running": "[  291.004127] node-annotations[1204]: its Node says which boot image it runs",
}
FAULTS = {
    "PXE-E16: No valid offer received.": "firmware",
    'BdsDxe: failed to load Boot0001 "UEFI PXEv4" from PciRoot(0x0): Not Found': "firmware",
    "http://10.77.0.1:8080/boot/c8c9/vmlinuz... Error 0x3e11618e (http://ipxe.org/3e11618e)": "kernel",
    "sitewright: there was no boot script, or it ended; again in 5 s": "script",
    "[    3.1] Kernel panic - not syncing: VFS: Unable to mount root fs": "initrd",
    "sitewright: http://10.77.0.1:8080/x: the server answered 503; attempt 1 of 100, again in 1.234 s": "initrd",
    "sitewright: http://10.77.0.2/boot/x holds something else, and is not asked again": "initrd",
    "[   20.1] dracut: FATAL: sitewright: the root file system is refused: it has sha256:00": "initrd",
    "[  236.6] node-join[911]: no certificate yet: https://10.77.0.10:8444/v1/node: timed out": "join",
    "[FAILED] Failed to start node-join.service - Get this node's identity in its cluster.": "join",
}


def after(*lines: str) -> Reading:
    reading = Reading()
    list(reading.feed("".join(f"{line}\r\n" for line in lines)))
    return reading


@pytest.mark.parametrize("stage", LINES)
def test_each_stage_is_told_by_a_line(stage: str) -> None:
    reading = after(LINES[stage])
    assert (reading.stage, reading.error) == (stage, "")
    assert reading.detail == plain(LINES[stage]).strip()


def test_a_whole_boot_goes_through_all_stages() -> None:
    reading, seen = Reading(), []
    for _ in reading.feed("".join(f"{line}\n" for line in LINES.values())):
        seen.append(reading.stage)
    assert seen == [stage for stage, _ in STAGES] == list(LINES)


@pytest.mark.parametrize(("line", "stage"), FAULTS.items())
def test_a_fault_is_an_error_in_the_stage_the_node_is_in(line: str, stage: str) -> None:
    reading = after(LINES[stage], line)
    assert reading.stage == stage
    assert reading.error and reading.error in line
    assert hint(reading.stage, reading.error)


def test_the_reason_behind_a_long_url_is_kept() -> None:
    url = f"http://images.site.example:8080/boot/{'a' * 64}/rootfs.squashfs"
    line = f"[   12.345678] dracut-initqueue[512]: sitewright: {url}: no connection; attempt 3 of 100, again in 4.210 s"
    assert after(LINES["initrd"], line).error.endswith("no connection; attempt 3 of 100, again in 4.210 s")


def test_what_goes_on_has_no_error_any_more() -> None:
    fault = "sitewright: http://10.77.0.1:8080/x: the server answered 503; attempt 1 of 100, again in 1.234 s"
    assert after(LINES["initrd"], fault, LINES["root"]).error == ""


def test_a_node_that_starts_over_is_at_the_beginning_again() -> None:
    assert after(LINES["running"], LINES["firmware"]).stage == "firmware"
    assert after(LINES["kernel"], LINES["script"]).stage == "script", "as BSS's script does after its pause"


def test_what_runs_on_beside_a_later_stage_does_not_take_the_node_back() -> None:
    assert after(LINES["kubelet"], LINES["cloud-init"]).stage == "kubelet"


def test_the_image_is_the_one_of_the_kernel_command_line() -> None:
    digest = "5" * 64
    assert after(f"[    0.0] Command line: sitewright.root=sha256:{digest} ip=dhcp").image == digest


def test_a_line_is_looked_at_once_it_is_complete() -> None:
    reading = Reading()
    assert list(reading.feed("[    0.0] Linux ver")) == []
    assert reading.stage == "firmware"
    assert list(reading.feed("sion 6.1\r\nnext")) == ["[    0.0] Linux version 6.1"]
    assert reading.stage == "initrd"


def test_a_stage_that_takes_too_long_is_said_once_and_the_same() -> None:
    assert stuck("firmware", PATIENCE["firmware"] - 1) == ""
    assert stuck("firmware", PATIENCE["firmware"] + 1) == stuck("firmware", PATIENCE["firmware"] + 99) != ""
    assert stuck("running", 1e9) == ""


def test_every_stage_that_can_fail_has_patience_and_a_hint() -> None:
    assert set(PATIENCE) == set(HINTS) == {stage for stage, _ in STAGES} - {"running"}


# Serial console of a node that booted the compute image in QEMU, from an image server that first answered 503 and then
# broke off; all lines but those that tell anything are left out.
RECORDED = Path(__file__).parents[1] / "data/consoles/compute.txt"


def test_a_recorded_boot_is_read_as_it_was() -> None:
    reading, stages, errors = Reading(), [], []
    for _ in reading.feed(RECORDED.read_bytes().decode()):
        stages.append(reading.stage)
        errors.append(reading.error)
    assert list(dict.fromkeys(stages)) == [
        "firmware",
        "ipxe",
        "script",
        "kernel",
        "initrd",
        "root",
        "cloud-init",
    ]
    told = [error for error in dict.fromkeys(errors) if error]
    assert ["503" in told[0], "cut short" in told[1], len(told)] == [True, True, 2]
    assert reading.error == "", "it came all the same"
