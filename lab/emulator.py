"""Machines of the lab that are emulated whole: QEMU without KVM, from the firmware on, as a diskless node is.

Such a machine has UEFI firmware, a serial console, memory, one network card and no disk. It is found again as the
machines of `lab.machine` are, by its control group, and is cut off and cleaned up by the same functions. Below
`paths.machine_dir(name)` it has `serial.log` (its console, of this power-on), `qemu.log`, `firmware.fd` (variables of
the firmware) and `qmp.sock`.
Source: qemu(1), QMP of QEMU 7.2; the firmware and the network boot program are Debian's ovmf and ipxe.
"""

import contextlib
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lab import cgroup, network, paths
from lab.machine import clean, console, exit_file, exit_status, kill, spawn, state, switch_on
from sitewright.errors import SitewrightError

__all__ = ["REBOOT_STATUS", "clean", "exit_status", "init_pid", "kill", "power_off", "start", "state"]

MIB = 2**20
PROGRAM = "qemu-system-x86_64"
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
FIRMWARE_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
# What QEMU needs beside the machine's memory. Half of it is for translated code, of which it keeps 1 GiB unasked.
OVERHEAD = 1024 * MIB
# Relative to where QEMU is started: the name of a socket has at most 107 characters, a directory may have more.
QMP_SOCKET = "qmp.sock"
START_SECONDS = 10.0
QMP_SECONDS = 5.0
# A guest that reboots stays in QEMU and begins again at its firmware: QEMU never ends for it.
REBOOT_STATUS = -1


@dataclass(frozen=True)
class EmulatedMachine:
    """cpus: cores; memory: bytes."""

    name: str
    network: str
    mac: str
    cpus: int
    memory: int


def start(machine: EmulatedMachine) -> None:
    """Power on. Returns once QEMU runs. Raises where the machine already runs, or QEMU ends at once."""
    switch_on(machine.name, lambda: _boot(machine))


def power_off(name: str, grace: float = 30.0) -> None:
    """Press the machine's power button; cut its power where it has not ended after `grace` seconds."""
    deadline = time.monotonic() + grace
    # Nobody listens while the firmware runs, or where QEMU is on the point of ending.
    with contextlib.suppress(OSError, ValueError):
        _ask(name, "system_powerdown")
    while state(name) == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    kill(name)


def init_pid(name: str) -> int | None:
    """The process that is the machine; None where it is off, or is no emulated one."""
    for pid in cgroup.processes(paths.machine_cgroup(name)):
        with contextlib.suppress(OSError):
            # The kernel keeps 15 characters of a name.
            if Path(f"/proc/{pid}/comm").read_text().strip() == PROGRAM[:15]:
                return pid
    return None


def serial_log(name: str) -> Path:
    """What the machine printed since it was switched on."""
    return paths.machine_dir(name) / "serial.log"


def command(machine: EmulatedMachine, tap: str) -> list[str]:
    """The command line of QEMU. tap: name of the interface that it opens."""
    directory = paths.machine_dir(machine.name)
    return [
        PROGRAM,
        *("-name", machine.name),
        *("-uuid", str(uuid.uuid5(uuid.NAMESPACE_DNS, machine.name))),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "q35", "-accel", f"tcg,thread=multi,tb-size={OVERHEAD // MIB // 2}", "-cpu", "max"),
        *("-smp", str(machine.cpus), "-m", str(machine.memory // MIB)),
        *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={FIRMWARE}"),
        *("-drive", f"if=pflash,format=raw,unit=1,file={directory / 'firmware.fd'}"),
        *("-chardev", f"file,id=console,path={serial_log(machine.name)}", "-serial", "chardev:console"),
        *("-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no"),
        # Without its option ROM, which is an iPXE: the firmware's own PXE loads ours over TFTP, as on a real node.
        *("-device", f"virtio-net-pci,netdev=net,mac={machine.mac},bootindex=1,romfile="),
        *("-device", "virtio-rng-pci"),
        *("-qmp", f"unix:{QMP_SOCKET},server=on,wait=off"),
    ]


def _boot(machine: EmulatedMachine) -> None:
    group = paths.machine_cgroup(machine.name)
    cgroup.create(group)
    cgroup.limit(group, machine.cpus, machine.memory + OVERHEAD)
    tap = network.connect_tap(machine.name, machine.network)
    directory = paths.machine_dir(machine.name)
    shutil.copyfile(FIRMWARE_VARIABLES, directory / "firmware.fd")
    serial_log(machine.name).write_bytes(b"")
    output = directory / "qemu.log"
    output.write_bytes(b"")
    spawn(machine.name, network.inside(*command(machine, tap)), output, start_in=directory)
    _wait_for_qemu(machine.name, output)


def _wait_for_qemu(name: str, output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError, ValueError):
            _ask(name, "query-status")
            return
        if exit_file(name).exists() or time.monotonic() > deadline:
            said = " | ".join(output.read_text(errors="replace").strip().splitlines()[-3:])
            raise SitewrightError(f"machine {name} does not start: {said}", f"See {console(name)}.")
        time.sleep(0.05)


def _ask(name: str, what: str) -> None:
    """One command over QMP. Raises OSError where nobody answers, ValueError where it is refused."""
    with _connection(name) as (connection, answers):
        answers.readline()  # the greeting
        for one in ("qmp_capabilities", what):
            connection.sendall(json.dumps({"execute": one}).encode() + b"\n")
            while not {"return", "error"} & (answer := json.loads(answers.readline())).keys():
                pass  # an event
            if "error" in answer:
                raise ValueError(answer["error"].get("desc", ""))


@contextlib.contextmanager
def _connection(name: str) -> Iterator[tuple[socket.socket, BinaryIO]]:
    directory = os.open(paths.machine_dir(name), os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(QMP_SECONDS)
            connection.connect(f"/proc/self/fd/{directory}/{QMP_SOCKET}")
            with connection.makefile("rb") as answers:
                yield connection, answers
    finally:
        os.close(directory)
