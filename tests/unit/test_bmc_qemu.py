"""An emulated node as its BMC sees it: QEMU is a file that the test writes to."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bmc_node import NODE

from lab import emulator
from lab.bmc import qemu, report
from lab.bmc.qemu import QemuBoot
from lab.bmc.report import Report
from lab.emulator import EmulatedMachine

SCRIPT = "http://10.77.0.1:27778/boot/v1/bootscript?mac=02:00:00:00:00:01"


class Bench:
    """runs: whether QEMU does; print: as the machine would."""

    def __init__(self) -> None:
        self.runs = False
        self.thread: threading.Thread | None = None
        self.started: list[EmulatedMachine] = []
        self.stop = threading.Event()
        self.boot = self._new_process()

    def _new_process(self) -> QemuBoot:
        self.report = Report(NODE.xname)
        return QemuBoot(NODE, self.report, self.start, lambda _: "running" if self.runs else "stopped")

    def start(self, machine: EmulatedMachine) -> None:
        self.started.append(machine)
        self.runs = True
        emulator.serial_log(machine.name).write_bytes(b"")

    def switch_on(self) -> None:
        self.boot.run(self.stop)
        self.watch()

    def watch(self) -> None:
        self.thread = threading.Thread(target=self.boot.watch, args=(self.stop,), daemon=True)
        self.thread.start()

    def restart_bmc(self) -> None:
        self.end()
        self.stop = threading.Event()
        self.boot = self._new_process()

    def print(self, text: str) -> None:
        with emulator.serial_log(NODE.xname).open("a") as log:
            log.write(text)

    def end(self) -> None:
        self.stop.set()
        if self.thread:
            self.thread.join(5)

    def until(self, fact: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not fact():
            assert time.monotonic() < deadline, f"never true: {self.report.progress}"
            time.sleep(0.01)

    def reaches(self, stage: str) -> None:
        self.until(lambda: report.read(NODE.xname).stage == stage)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("SITEWRIGHT_LAB_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(qemu, "LOOK_SECONDS", 0.01)
    made = Bench()
    yield made
    made.end()


def console(directory: Path) -> str:
    return (directory / "machines" / NODE.xname / "console.log").read_text()


def test_the_machine_is_the_node_of_the_site_file(bench: Bench) -> None:
    bench.switch_on()
    assert bench.started == [EmulatedMachine(NODE.xname, "nodes", NODE.mac, 2, 6 << 30)]
    progress = report.read(NODE.xname)
    assert (progress.driver, progress.power, progress.stage) == ("qemu", "On", "firmware")


def test_the_report_follows_the_console(bench: Bench, tmp_path: Path) -> None:
    bench.switch_on()
    bench.print("iPXE initialising devices...ok\r\n")
    bench.reaches("ipxe")
    bench.print(f"\x1b[37m{SCRIPT}... ok\r\n[    0.0] Linux ver")
    bench.reaches("script")
    bench.print("sion 6.1.0\r\n")
    bench.reaches("initrd")
    assert f"\n{SCRIPT}... ok\n" in console(tmp_path), "without what moves a cursor"
    assert "bmc] script: " in console(tmp_path)


def test_a_boot_that_fails_leaves_stage_reason_hint_and_the_last_lines(bench: Bench, tmp_path: Path) -> None:
    bench.switch_on()
    bench.print(f"{SCRIPT}... Connection timed out (http://ipxe.org/4c0a6092)\n")
    bench.until(lambda: report.read(NODE.xname).error != "")
    shown = report.last_boot(tmp_path, NODE.xname)
    assert shown is not None
    assert (shown["driver"], shown["stage"]) == ("qemu", "script")
    assert "Connection timed out" in shown["error"]
    assert "`sitewright lab status`" in shown["hint"]
    assert any("Connection timed out" in line for line in shown["last_lines"])
    assert shown["console"].endswith(f"{NODE.xname}/console.log")


def test_it_leaves_them_when_it_is_switched_off_too(bench: Bench, tmp_path: Path) -> None:
    bench.switch_on()
    bench.print("[    9.9] Kernel panic - not syncing: no init\n")
    bench.until(lambda: report.read(NODE.xname).error != "")
    bench.end()
    bench.report.stage("off", "power off", power="Off")
    shown = report.last_boot(tmp_path, NODE.xname)
    assert shown is not None
    assert (shown["stage"], shown["reached"]) == ("off", "firmware")
    assert "Kernel panic" in shown["error"] and shown["hint"]


def test_a_boot_that_goes_on_after_all_has_no_error_any_more(bench: Bench) -> None:
    bench.switch_on()
    bench.print(f"{SCRIPT}... Connection timed out (http://ipxe.org/4c0a6092)\n")
    bench.until(lambda: report.read(NODE.xname).error != "")
    bench.print(f"{SCRIPT}... ok\nhttp://10.77.0.1:8080/boot/d/vmlinuz... ok\n")
    bench.reaches("kernel")
    progress = report.read(NODE.xname)
    assert (progress.error, progress.hint) == ("", "")


def test_a_node_that_says_nothing_for_long_is_stuck(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(qemu.console.PATIENCE, "firmware", 0.05)
    bench.switch_on()
    bench.until(lambda: report.read(NODE.xname).error == "no further for 0 s")
    assert (
        "DHCP" not in report.read(NODE.xname).error
        and "`sitewright lab logs dhcp`" in report.read(NODE.xname).hint
    )
    bench.print("iPXE initialising devices...ok\n")
    bench.until(lambda: report.read(NODE.xname).error == "")


def test_a_bmc_that_is_started_again_reads_on(bench: Bench, tmp_path: Path) -> None:
    bench.switch_on()
    bench.print("iPXE initialising devices...ok\n")
    bench.reaches("ipxe")
    bench.restart_bmc()
    bench.print("[    0.0] Linux version 6.1.0\n")
    bench.watch()
    bench.reaches("initrd")
    assert console(tmp_path).count("\niPXE initialising") == 1
    assert console(tmp_path).count("\n[    0.0] Linux version") == 1


def test_what_a_node_printed_last_is_kept_when_it_goes_off(bench: Bench, tmp_path: Path) -> None:
    bench.switch_on()
    bench.print("reboot: Power down\n")
    bench.runs = False
    assert bench.thread
    bench.thread.join(5)
    assert not bench.thread.is_alive()
    assert "reboot: Power down" in console(tmp_path)


def test_a_node_that_the_other_driver_started_is_left_alone(bench: Bench) -> None:
    bench.report.stage("running", power="On")
    bench.runs = True
    bench.watch()
    time.sleep(0.1)
    assert bench.thread and bench.thread.is_alive()
    assert report.read(NODE.xname).stage == "running"


def test_a_node_that_was_never_on_has_no_boot(tmp_path: Path) -> None:
    assert report.last_boot(tmp_path, NODE.xname) is None
