"""The boot of an emulated node: QEMU is started, and its console tells the rest.

Nothing is done for the node after that. Its firmware asks DHCP and TFTP, its iPXE the provisioner, and its initial
root the image server, as those of a real node do; this program reads along.
"""

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

from lab import emulator, paths
from lab.bmc import console
from lab.bmc.console import Reading
from lab.bmc.report import Report
from lab.emulator import EmulatedMachine
from sitewright.site import Node

LOOK_SECONDS = 0.5


class QemuBoot:
    """start, state: replaced in tests."""

    def __init__(
        self,
        node: Node,
        report: Report,
        start: Callable[[EmulatedMachine], None] = emulator.start,
        state: Callable[[str], str] = emulator.state,
    ) -> None:
        self._node = node
        self._report = report
        self._start = start
        self._state = state

    def run(self, stop: Event) -> None:
        """Switch on. Returns once QEMU runs. stop: unused, since that takes no time."""
        node = self._node
        self._report.stage("power-on", node.mac, driver="qemu", power="On", image="", attempt=0)
        self._read_up_to(0)
        self._start(EmulatedMachine(node.xname, node.network, node.mac, node.cpus, node.memory))
        self._report.stage("firmware")

    def watch(self, stop: Event) -> None:
        """Read the console, and report how far the node is, until it is off or `stop` is set. One that was taken over
        from an earlier process of its BMC is read from where that process was."""
        progress = self._report.progress
        reading = Reading(progress.stage, progress.detail, progress.error, progress.image)
        told, since = (reading.stage, reading.error), time.monotonic()

        def tell(error: str) -> None:
            nonlocal told, since
            if told != (reading.stage, error):
                since = since if told[0] == reading.stage else time.monotonic()
                told = (reading.stage, error)
                hint = console.hint(reading.stage, error)
                detail = "" if error else reading.detail
                self._report.stage(reading.stage, detail, error, hint=hint, image=reading.image)

        while True:
            runs = self._state(self._node.xname) == "running"
            for line in reading.feed(self._printed()):
                self._report.copy(line)
                tell(reading.error)
            tell(reading.error or console.stuck(reading.stage, time.monotonic() - since))
            if not runs or stop.wait(LOOK_SECONDS):
                return

    def _printed(self) -> str:
        """What the console printed since the last call, of this process or of an earlier one."""
        try:
            with emulator.serial_log(self._node.xname).open("rb") as log:
                log.seek(self._read())
                new = log.read()
        except FileNotFoundError:
            return ""  # it was started by the other driver, and is this one's from the next power-on
        self._read_up_to(self._read() + len(new))
        return new.decode(errors="replace")

    @property
    def _offset_file(self) -> Path:
        return paths.machine_dir(self._node.xname) / "serial.read"

    def _read(self) -> int:
        try:
            return int(self._offset_file.read_text())
        except (OSError, ValueError):
            return 0

    def _read_up_to(self, offset: int) -> None:
        self._offset_file.parent.mkdir(parents=True, exist_ok=True)
        self._offset_file.write_text(str(offset))
