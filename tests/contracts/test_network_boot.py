"""A node is really booted: firmware, DHCP, TFTP, iPXE, the script of BSS by MAC address, kernel, initial root.

By the lab's own driver, DHCP configuration and first script, in a network namespace beside any lab. BSS and the image
server are one program here, which first misbehaves; the initial root is one program that says what it was given. From
there on a boot is the image's affair: tests/lab/test_qemu_node.py follows one to the Ready node. Without KVM, this
takes a minute or two.
"""

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from lab import cgroup, configuration, emulator, machine, namespace, network, paths
from lab.bmc import report
from lab.bmc.power import NodePower
from lab.bmc.qemu import QemuBoot
from lab.bmc.report import Report
from lab.plan import LabPlan
from lab.provisioner.bss_script import BootData, boot_script, kernel_arguments
from sitewright.site import Node, load
from tests.contracts.tiny_system import initial_root, kernel

# Two things that a machine may not grant and no installation brings. A package that is missing fails the tests.
pytestmark = [
    pytest.mark.timeout(420),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and control groups need root"),
    pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="no tap devices on this machine"),
]

REPOSITORY = Path(__file__).parents[2]
SERVER = "http://10.77.0.1"
IMAGES, BSS = f"{SERVER}:8080/boot", f"{SERVER}:27778"


class Servers:
    """BSS and image server of one node. scripts: what BSS answers in turn, the last one for ever; "" is a 503."""

    def __init__(self, scripts: list[str], files: dict[str, bytes]) -> None:
        self.scripts, self.files = scripts, files
        self.asked: list[str] = []
        self._servers = [namespace.within(self._listen, port) for port in (8080, 27778)]

    def _listen(self, port: int) -> ThreadingHTTPServer:
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told.asked.append(self.path)
                body = told.answer(self.path)
                if isinstance(body, int):
                    self.send_error(body)
                    return
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        server = ThreadingHTTPServer(("10.77.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def answer(self, path: str) -> bytes | int:
        """The body, or the status of a refusal."""
        if path.startswith("/boot/v1/bootscript"):
            script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
            return script.encode() or 503
        return self.files.get(path.rpartition("/")[2], 404)

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class Bench:
    """A lab of one bridge, DHCP, and one node whose BMC is this process."""

    def __init__(self, directory: Path, plan: LabPlan, node: Node) -> None:
        self.directory, self.node = directory, node
        self._bmcs: list[NodePower] = []
        self.power = self.new_bmc()
        network.create_lab()
        for net in plan.site.networks:
            network.create_bridge(net.name, plan.addresses(net))
        config = configuration.write(plan)["dnsmasq"]
        (paths.state_dir() / "run").mkdir()
        self.dhcp_log = directory / "dhcp.log"
        with self.dhcp_log.open("wb") as log:
            command = network.inside("dnsmasq", "--keep-in-foreground", f"--conf-file={config}")
            self.dhcp = subprocess.Popen(command, stdout=log, stderr=log)

    def new_bmc(self) -> NodePower:
        told = Report(self.node.xname)
        boot = QemuBoot(self.node, told)
        self._bmcs.append(NodePower(self.node.xname, boot.run, told, emulator, boot.watch))
        return self._bmcs[-1]

    @property
    def console(self) -> str:
        log = machine.console(self.node.xname)
        return log.read_text() if log.exists() else ""

    @property
    def shown(self) -> dict:
        """As `sitewright nodes show` prints it."""
        return report.last_boot(paths.state_dir(), self.node.xname) or {}

    def until(self, fact: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not fact():
            assert time.monotonic() < deadline, f"{self.console[-3000:]}\n{self.dhcp_log.read_text()[-2000:]}"
            time.sleep(0.2)

    def remove(self) -> None:
        # Their threads end here: after the test the same names mean the lab that people use.
        for bmc in self._bmcs:
            bmc.off()
        self.dhcp.terminate()
        self.dhcp.wait(10)
        cgroup.kill(paths.lab_name())
        cgroup.remove(paths.lab_name())
        for name in network.lab_namespaces():
            network.delete_namespace(name)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("SITEWRIGHT_LAB_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SITEWRIGHT_LAB_NAME", f"swboot{os.getpid()}")
    # Nodes that no lab has.
    text = (REPOSITORY / "environments/lab.yaml").read_text().replace("x1000c", "x1007c")
    file = tmp_path / "lab.yaml"
    file.write_text(
        text.replace("/var/lib/sitewright/lab", str(tmp_path / "state")).replace(
            "  # qemu_nodes: x1007c0s0b1n0", "  qemu_nodes: x1007c0s0b1n0"
        )
    )
    plan = LabPlan(load(file))
    [node] = plan.site.emulated_nodes
    made = Bench(tmp_path, plan, replace(node, cpus=1, memory=1 << 30))
    yield made
    made.remove()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    directory = tmp_path_factory.mktemp("system")
    return {"vmlinuz": kernel(directory).read_bytes(), "initramfs.img": initial_root(directory)}


def script_for(node: Node, vmlinuz: str) -> str:
    """Of BSS, but with a pause that is worth waiting for."""
    boot = BootData("console=ttyS0", f"{IMAGES}/{vmlinuz}", f"{IMAGES}/initramfs.img")
    arguments = kernel_arguments(boot, node.xname, str(node.nid), node.mac, f"{SERVER}:27777")
    chain = f"{BSS}/boot/v1/bootscript?mac={node.mac}&retry=1"
    return boot_script(boot, arguments, chain).replace("sleep 30", "sleep 4")


def test_a_node_boots_from_its_firmware_to_its_initial_root(bench: Bench, system: dict[str, bytes]) -> None:
    node = bench.node
    servers = Servers(["", script_for(node, "missing"), script_for(node, "vmlinuz")], system)
    try:
        bench.power.on()
        _a_missing_script_and_a_missing_kernel_are_told_while_it_waits(bench)
        bench.until(lambda: "initial root: was given" in bench.console, 240)
        _it_went_the_whole_way(bench, servers)
        _another_process_of_the_bmc_takes_it_over(bench)
        _nothing_is_left_when_it_is_off(bench)
    finally:
        servers.close()


def _a_missing_script_and_a_missing_kernel_are_told_while_it_waits(bench: Bench) -> None:
    bench.until(lambda: bench.shown.get("stage") == "script" and bench.shown["error"] != "", 150)
    assert "provisioner" in bench.shown["hint"]
    bench.until(lambda: bench.shown.get("stage") == "kernel" and bench.shown["error"] != "", 60)
    assert "ipxe.org/" in bench.shown["error"] and "/boot/missing" in bench.shown["error"]
    assert "image server" in bench.shown["hint"]
    assert any("/boot/missing" in line for line in bench.shown["last_lines"])


def _it_went_the_whole_way(bench: Bench, servers: Servers) -> None:
    stages = re.findall(r"(?m)^\[\S+ bmc\] ([\w-]+)", bench.console)
    in_order = ["power-on", "firmware", "ipxe", "script", "kernel", "initrd"]
    assert list(dict.fromkeys(stages)) == in_order
    dhcp = bench.dhcp_log.read_text()
    for sent in ("snponly.efi", "first.ipxe"):
        assert re.search(rf"sent \S+/tftp/{sent} to {bench.node.address}", dhcp), dhcp
    asked = [unquote(path) for path in servers.asked if "bootscript" in path]
    assert asked[0] == f"/boot/v1/bootscript?mac={bench.node.mac}"
    [given] = re.findall(r"initial root: was given (.*)", bench.console)
    assert f"xname={bench.node.xname}" in given and f"BOOTIF=01-{bench.node.mac.replace(':', '-')}" in given
    assert bench.shown["error"] == ""


def _another_process_of_the_bmc_takes_it_over(bench: Bench) -> None:
    process = emulator.init_pid(bench.node.xname)
    again = bench.new_bmc()
    again.adopt()
    assert again.state == "On"
    assert emulator.init_pid(bench.node.xname) == process


def _nothing_is_left_when_it_is_off(bench: Bench) -> None:
    bench.power.off()
    assert bench.power.state == "Off"
    assert machine.state(bench.node.xname) == "stopped"
    assert machine.names() == []
    assert paths.short("v-", bench.node.xname) not in network.links(paths.lab_name())
    assert bench.shown["reached"] == "initrd"


def test_lab_down_finds_a_machine_that_nobody_remembers(bench: Bench) -> None:
    """By its control group and its interface, as those of nspawn."""
    bench.power.on()
    bench.until(lambda: emulator.init_pid(bench.node.xname) is not None, 30)
    assert bench.node.xname in machine.names()
    machine.clean(bench.node.xname)
    assert machine.names() == []
    assert paths.short("v-", bench.node.xname) not in network.links(paths.lab_name())
