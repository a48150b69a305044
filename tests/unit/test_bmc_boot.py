"""From power-on to the first process, with a provisioner and a machine that are not there."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from threading import Event

import httpx
import pytest
from bmc_node import NODE

from lab.bmc.boot import Boot, Surroundings
from lab.bmc.fetch import Fetcher, Stopped
from lab.bmc.report import Report, read
from lab.bmc.root import Root
from lab.machine import Bind, Machine
from sitewright.errors import SitewrightError
from sitewright.site import Site

IMAGE = b"hsqs".ljust(40, b"\0") + (2048).to_bytes(8, "little") + bytes(2000)
DIGEST = hashlib.sha256(IMAGE).hexdigest()
ARGUMENTS = (
    f"root=live:http://images/root.squashfs sitewright.root=sha256:{DIGEST} ds=nocloud-net;s=http://c/"
)
SCRIPT = f"""#!ipxe
kernel --name kernel http://images/k {ARGUMENTS} || goto boot_retry
boot || goto boot_retry
:boot_retry
sleep 30
chain http://bss/boot/v1/bootscript?mac=m&retry=1
"""
UNKNOWN = "#!ipxe\nsleep 10\nchain http://bss/boot/v1/bootscript?mac=m&arch=${buildarch}&ts=1\n"


class PatientEvent(Event):
    """An event whose waits end at once, and are counted; after `patience` of them it is set."""

    def __init__(self, patience: int = 99) -> None:
        super().__init__()
        self.waited: list[float] = []
        self.patience = patience

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout or 0.0)
        if len(self.waited) >= self.patience:
            self.set()
        return self.is_set()


class Bench:
    """scripts: what BSS answers, the last one for ever."""

    def __init__(self, directory: Path, scripts: list[str], patience: int = 99, image: bytes = IMAGE) -> None:
        self.scripts, self.image = scripts, image
        self.asked: list[str] = []
        self.started: list[Machine] = []
        self.roots: list[tuple[str, str, int]] = []
        self.stop = PatientEvent(patience)
        self.shared = directory / "shared"
        self.start: Callable[[Machine], None] = self.started.append
        self.report = Report(NODE.xname)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        if request.url.host == "bss":
            return httpx.Response(200, text=self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0])
        if request.url.path == "/root.squashfs":
            return httpx.Response(200, content=self.image)
        return httpx.Response(404)

    def prepare(self, xname: str, image: Path, memory: int) -> Root:
        self.roots.append((xname, image.name, memory))
        return Root(Path("/root"), (Bind(Path("/memory/kubelet"), "/var/lib/kubelet"),))

    def run(self) -> None:
        def fetcher(stop: Event, tell: Callable[[str], None]) -> Fetcher:
            return Fetcher(stop, tell, httpx.MockTransport(self.answer), pause=lambda attempt: 0.0)

        surroundings = Surroundings("http://bss/boot/v1/bootscript", self.shared, "/shared")
        boot = Boot(NODE, surroundings, self.report, lambda m: self.start(m), self.prepare, fetcher)
        boot.run(self.stop)


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITEWRIGHT_LAB_STATE_DIR", str(tmp_path))


def console(directory: Path) -> str:
    return (directory / "machines" / NODE.xname / "console.log").read_text()


def test_a_node_boots_as_its_script_says(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [SCRIPT])
    bench.run()
    (machine,) = bench.started
    assert machine.name == NODE.xname
    assert (machine.network, machine.mac, machine.cpus, machine.memory) == ("nodes", NODE.mac, 2, 6 << 30)
    assert machine.init_args == tuple(ARGUMENTS.split())
    assert machine.exit_on_reboot
    assert Bind(bench.shared, "/shared", read_only=True) in machine.binds
    assert Bind(Path("/memory/kubelet"), "/var/lib/kubelet") in machine.binds
    assert bench.roots == [(NODE.xname, f"{DIGEST}.squashfs", 6 << 30)]
    assert bench.asked[0] == f"http://bss/boot/v1/bootscript?mac={NODE.mac}"


def test_the_report_names_stage_image_and_power(tmp_path: Path) -> None:
    Bench(tmp_path, [SCRIPT]).run()
    progress = read(NODE.xname)
    assert (progress.power, progress.stage, progress.image, progress.error) == ("On", "running", DIGEST, "")
    assert "start: root=live:" in console(tmp_path)


def test_a_node_the_provisioner_does_not_know_yet_asks_again_and_then_boots(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [UNKNOWN, UNKNOWN, SCRIPT])
    bench.run()
    assert bench.stop.waited == [10, 10]
    assert bench.asked[1] == "http://bss/boot/v1/bootscript?mac=m&arch=x86_64&ts=1"
    assert len(bench.started) == 1


def test_a_wrong_digest_boots_nothing_and_is_reported(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [SCRIPT], patience=2, image=IMAGE + b"changed")
    with pytest.raises(Stopped):
        bench.run()
    assert bench.started == []
    assert bench.stop.waited == [30, 30], "in the rhythm of the script"
    progress = read(NODE.xname)
    assert progress.stage == "retry"
    assert f"but sitewright.root says {DIGEST}; refused" in progress.error
    assert "refused" in console(tmp_path)


def test_a_provisioner_that_answers_nonsense_is_asked_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ["<html>", SCRIPT])
    bench.run()
    assert len(bench.started) == 1


def test_a_machine_that_does_not_start_is_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [SCRIPT])
    faults = [SitewrightError("machine x1000c0s0b0n0 does not start: no namespace")]

    def start(machine: Machine) -> None:
        if faults:
            raise faults.pop()
        bench.started.append(machine)

    bench.start = start
    bench.run()
    assert len(bench.started) == 1
    assert "does not start: no namespace" in console(tmp_path)


def test_a_missing_kernel_is_told_though_this_driver_does_without(tmp_path: Path) -> None:
    Bench(tmp_path, [SCRIPT]).run()
    assert "warning: kernel http://images/k is not there: a real node would not boot" in console(tmp_path)


def test_switched_off_while_it_waits_a_node_stops(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [UNKNOWN], patience=1)
    with pytest.raises(Stopped):
        bench.run()


def test_a_report_that_is_half_written_or_of_another_version_counts_as_off(tmp_path: Path) -> None:
    directory = tmp_path / "machines" / NODE.xname
    directory.mkdir(parents=True)
    for text in ('{"node": "x10', '{"node": "a", "colour": "red"}', "[]"):
        (directory / "boot.json").write_text(text)
        assert read(NODE.xname).power == "Off"


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"bss": "http://10.1.0.1:27778/"}, "http://10.1.0.1:27778/boot/v1/bootscript"),
        ({"boot_service": "http://10.1.0.1:27776"}, "http://10.1.0.1:27776/bootscript"),
    ],
)
def test_a_node_asks_what_gives_out_boot_scripts_in_its_site(given: dict[str, str], asked: str) -> None:
    provisioner = {"smd": "http://10.1.0.1:27779", "cloud_init": "http://10.1.0.1:27777", **given}
    site = Site.model_validate(
        {
            "name": "lab",
            "networks": [{"name": "nodes", "cidr": "10.1.0.0/24"}],
            "registry": {"endpoint": "http://10.1.0.1:5000"},
            "provisioner": provisioner,
        }
    )
    assert Surroundings.of(site).boot_script == asked
