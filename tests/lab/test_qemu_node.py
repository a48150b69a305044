"""One node of the lab is emulated: it comes from its firmware to Ready, with the image that the others run.

Switching a node over is a line in the site file and a power cycle, and so is switching it back. Without KVM the node
takes minutes; nothing is asked of it but to be Ready, and to say how far it is meanwhile.
"""

import json
import time
from collections.abc import Iterator

import pytest

from lab.bmc.console import STAGES
from tests.bench.figure import Figure
from tests.bench.under_load import keep
from tests.lab.conftest import SITEWRIGHT, eventually, run, supervisor
from tests.lab.user import REPOSITORY, Shell

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600)]

NODE = "x1000c0s0b1n0"
FILE = REPOSITORY / "environments/lab.yaml"
IN_ORDER = [stage for stage, _ in STAGES]
BOOT_SECONDS = 1200


def boot() -> dict:
    return json.loads(run(SITEWRIGHT, "nodes", "show", "lab", NODE, check=False).stdout)["boot"]


def state(shell: Shell) -> str:
    return shell.must(f"kubectl get node {NODE} --no-headers").split()[1]


def power(action: str) -> None:
    run(SITEWRIGHT, "nodes", "power", "lab", NODE, action, "--yes")


@pytest.fixture
def emulated(deployed) -> Iterator[None]:
    """The node, switched over and off."""
    before = FILE.read_text()
    assert "  # qemu_nodes: x1000c0s0b1n0" in before
    power("off")
    FILE.write_text(before.replace("  # qemu_nodes: x1000c0s0b1n0", "  qemu_nodes: x1000c0s0b1n0"))
    run(SITEWRIGHT, "lab", "up")
    yield
    power("off")
    FILE.write_text(before)
    run(SITEWRIGHT, "lab", "up")
    power("on")


def test_an_emulated_node_comes_from_its_firmware_to_ready(outputs, site, emulated, shell: Shell) -> None:
    begun = time.monotonic()
    power("on")
    reached: list[str] = []

    def runs() -> bool:
        found = boot()
        if found["stage"] not in reached:
            reached.append(found["stage"])
        return found["stage"] == "running"

    assert eventually(runs, BOOT_SECONDS), boot()
    keep(Figure("boot.emulated_node_power_on_to_running", time.monotonic() - begun, "s"))
    assert reached == [stage for stage in IN_ORDER if stage in reached]
    found = boot()
    assert (found["driver"], found["error"], found["hint"]) == ("qemu", "", "")
    assert eventually(lambda: state(shell) == "Ready", 120)
    kernel = shell.must(f"kubectl get node {NODE} -o jsonpath={{.status.nodeInfo.kernelVersion}}")
    assert kernel.endswith("-cloud-amd64"), "its own, and not that of this machine"


def test_a_node_whose_image_server_is_down_says_so_and_goes_on_when_it_is_back(
    outputs, site, emulated, shell: Shell
) -> None:
    supervisor(site, "stop", "image-server")
    try:
        power("on")
        assert eventually(lambda: boot()["stage"] == "kernel" and boot()["error"] != "", 300), boot()
        assert "image server" in boot()["hint"]
        assert any("8080" in line for line in boot()["last_lines"])
    finally:
        supervisor(site, "start", "image-server")
    assert eventually(lambda: boot()["stage"] == "running", BOOT_SECONDS), boot()
    assert boot()["error"] == ""


def test_switched_back_it_is_a_machine_like_the_others(outputs, site, shell: Shell) -> None:
    assert eventually(lambda: boot()["driver"] == "nspawn" and boot()["stage"] == "running", 300), boot()
    assert eventually(lambda: state(shell) == "Ready", 300)
