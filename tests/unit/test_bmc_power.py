"""The power buttons of a node, with a machine that is a process of ours."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Literal

import pytest

from lab.bmc import report
from lab.bmc.fetch import Stopped
from lab.bmc.power import NodePower
from lab.bmc.report import Report

XNAME = "x1000c0s0b0n0"


class FakeMachines:
    """Stands in for lab.machine: one machine, a `sleep` process."""

    REBOOT_STATUS = 133

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.ended: int | None = None
        self.log: list[str] = []

    def boot(self) -> None:
        self.log.append("boot")
        self.ended = None
        self.process = subprocess.Popen(["sleep", "60"])

    def end(self, status: int | None) -> None:
        self.ended = status
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def state(self, name: str) -> Literal["running", "stopped"]:
        return "running" if self.process else "stopped"

    def kill(self, name: str) -> None:
        if self.process:
            self.log.append("kill")
        self.end(None)

    def power_off(self, name: str, grace: float = 30) -> None:
        self.log.append("power_off")
        self.end(0)

    def clean(self, name: str) -> None:
        self.kill(name)
        self.log.append("clean")

    def exit_status(self, name: str) -> int | None:
        return self.ended

    def init_pid(self, name: str) -> int | None:
        return self.process.pid if self.process else None


class Bench:
    def __init__(self) -> None:
        self.machines = FakeMachines()
        self.hold = False
        self.report = Report(XNAME)
        self.power = NodePower(XNAME, self.boot, self.report, self.machines)

    def boot(self, stop: Event) -> None:
        self.report.stage("power-on", power="On")
        if self.hold and stop.wait(5):
            raise Stopped
        self.machines.boot()
        self.report.stage("running")

    def until(self, fact: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not fact():
            assert time.monotonic() < deadline, f"never true; log {self.machines.log}, {self.report.progress}"
            time.sleep(0.005)

    def running(self) -> None:
        self.until(lambda: self.report.progress.stage == "running" and self.machines.process is not None)

    def gone(self) -> None:
        self.until(lambda: self.power.state == "Off")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("SITEWRIGHT_LAB_STATE_DIR", str(tmp_path))
    made = Bench()
    yield made
    made.power.off()


def test_on_boots_once_and_off_gives_everything_back(bench: Bench) -> None:
    bench.power.on()
    bench.running()
    bench.power.on()
    assert bench.power.state == "On"
    bench.power.off()
    assert bench.power.state == "Off"
    assert bench.machines.log.count("boot") == 1
    assert bench.machines.log[-1] == "clean"
    assert (bench.report.progress.power, bench.report.progress.stage) == ("Off", "off")


def test_a_node_counts_as_on_while_it_still_boots(bench: Bench) -> None:
    bench.hold = True
    bench.power.on()
    assert bench.power.state == "On"
    bench.power.off()
    assert bench.power.state == "Off"
    assert "boot" not in bench.machines.log
    assert bench.report.progress.detail == "power off while booting"


def test_a_shutdown_asks_the_node(bench: Bench) -> None:
    bench.power.on()
    bench.running()
    bench.power.shutdown()
    bench.gone()
    assert "power_off" in bench.machines.log
    assert bench.report.progress.detail == "the node shut itself down"


def test_a_shutdown_of_a_node_that_still_boots_ends_the_boot(bench: Bench) -> None:
    bench.hold = True
    bench.power.on()
    bench.power.shutdown()
    bench.gone()
    assert "power_off" not in bench.machines.log


@pytest.mark.parametrize(("graceful", "how"), [(True, "power_off"), (False, "kill")])
def test_a_restart_boots_again_from_the_network(bench: Bench, graceful: bool, how: str) -> None:
    bench.power.on()
    bench.running()
    bench.power.restart(graceful)
    bench.until(lambda: bench.machines.log.count("boot") == 2)
    assert how in bench.machines.log
    between = bench.machines.log[bench.machines.log.index("boot") + 1 :]
    assert between.index("clean") < between.index("boot"), "what the node wrote is gone before it boots again"


def test_a_node_that_reboots_itself_boots_from_the_network_again(bench: Bench) -> None:
    bench.power.on()
    bench.running()
    bench.machines.end(FakeMachines.REBOOT_STATUS)
    bench.until(lambda: bench.machines.log.count("boot") == 2)
    assert bench.power.state == "On"


def test_a_node_that_loses_power_is_off_and_its_mounts_are_gone(bench: Bench) -> None:
    bench.power.on()
    bench.running()
    bench.machines.end(None)
    bench.gone()
    assert bench.machines.log[-1] == "clean"
    assert bench.report.progress.detail == "the node's power was cut"


def test_a_boot_that_crashes_is_reported(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(stop: Event) -> None:
        raise ZeroDivisionError("division by zero")

    power = NodePower(XNAME, crash, bench.report, bench.machines)
    power.on()
    bench.until(lambda: power.state == "Off")
    assert bench.report.progress.error == "ZeroDivisionError: division by zero"


# A BMC process that was killed and started again --------------------------------------------------


def again(bench: Bench) -> Bench:
    """The same node, seen by a new process of its BMC."""
    new = Bench()
    new.machines = bench.machines
    new.power = NodePower(XNAME, new.boot, new.report, new.machines)
    new.power.adopt()
    return new


def test_a_running_node_runs_on(bench: Bench) -> None:
    bench.machines.boot()
    new = again(bench)
    assert new.power.state == "On"
    assert bench.machines.log == ["boot"]
    new.power.off()
    assert bench.machines.process is None


def test_a_node_that_was_booting_boots(bench: Bench) -> None:
    bench.report.stage("image", power="On")
    new = again(bench)
    new.running()
    assert new.power.state == "On"
    new.power.off()


def test_a_node_that_died_meanwhile_is_off_and_cleaned(bench: Bench) -> None:
    bench.report.stage("running", power="On")
    new = again(bench)
    assert new.power.state == "Off"
    assert bench.machines.log == ["clean"]
    assert new.report.progress.power == "Off"


def test_a_node_that_was_booting_in_an_earlier_lab_stays_off(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.report.stage("image", power="On")
    monkeypatch.setattr(report, "_this_lab", lambda: 1)
    assert again(bench).power.state == "Off"
