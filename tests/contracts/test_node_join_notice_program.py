"""What a node runs when it boots where it has to say so itself, against the real service: once per boot, and first."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.fake_hypervisor import free_ports, process, until
from tests.contracts.identity_bench import Bench, bench
from tests.contracts.test_node_join_program import PROGRAM, XNAME, Machine


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("identity"), bss=False) as made:
        made.declare("gpu", 0)
        yield made


class Boot(Machine):
    """A node that has just booted and is told to say so. urls: of the service, where not of its replicas."""

    def __init__(self, root: Path, service: Bench, urls: list[str] | None = None) -> None:
        time.sleep(1.1)  # notices count in seconds, and no node boots twice in one
        super().__init__(root, service, urls or service.replicas)
        told = json.loads(self.settings.read_text())
        self.settings.write_text(json.dumps({**told, "boot_notice": True}))
        self._service = service
        self._before = len(self._decisions())

    def _decisions(self) -> list[dict]:
        found = [json.loads(line) for number in (0, 1) for line in self._service.log(number).splitlines()]
        return sorted(found, key=lambda line: line["time"])

    def decided(self) -> list[str]:
        """What the service decided since this boot, in order."""
        return [line["decision"] for line in self._decisions()[self._before :]]


def test_a_node_says_that_it_boots_and_then_gets_its_certificate(service: Bench, tmp_path: Path):
    boot = Boot(tmp_path, service)
    assert f"{XNAME} has its identity" in boot.join()
    assert boot.decided() == ["noted", "granted"]
    assert json.loads(boot.read("etc/kubernetes/boot-notice.json"))["xname"] == XNAME


def test_a_program_that_starts_again_gives_no_second_notice(service: Bench, tmp_path: Path):
    boot = Boot(tmp_path, service)
    boot.join()
    certificate = boot.read("etc/kubernetes/pki/kubelet.crt")
    boot.join()
    assert boot.decided() == ["noted", "granted"]
    (boot.root / "etc/kubernetes/node.json").unlink()  # as where it ended before it had its certificate
    boot.join()
    assert boot.decided() == ["noted", "granted", "granted"]
    assert boot.read("etc/kubernetes/pki/kubelet.crt") == certificate


def test_the_next_boot_gives_the_next_notice(service: Bench, tmp_path: Path):
    for name in ("first", "second"):
        boot = Boot(tmp_path / name, service)
        boot.join()
        assert boot.decided() == ["noted", "granted"]


def test_a_notice_whose_answer_was_lost_is_given_again(service: Bench, tmp_path: Path):
    boot = Boot(tmp_path, service)
    service.notice(0)
    boot.join()
    assert boot.decided() == ["noted", "noted", "granted"]


def test_a_node_waits_for_the_service_and_says_so(service: Bench, tmp_path: Path):
    [port] = free_ports(1)
    boot, log = Boot(tmp_path, service, [f"https://127.0.0.1:{port}"]), tmp_path / "log"
    there = service.replicas[0].removeprefix("https://")
    with process([sys.executable, str(PROGRAM)], log, boot.environment) as running:
        until(lambda: "no boot notice yet: " in log.read_text(), "it says what it waits for", 30)
        listen = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"
        with process(["socat", listen, f"TCP:{there}"], tmp_path / "socat"):
            assert running.wait(60) == 0
    assert f"{XNAME} has its identity" in log.read_text()
    assert boot.decided() == ["noted", "granted"]
