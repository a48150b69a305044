"""The power of one node: the buttons, and the thread that lives as long as the node is on."""

import os
import select
import threading
from collections.abc import Callable
from typing import Literal, Protocol

from lab import machine as real_machine
from lab.bmc.fetch import Stopped
from lab.bmc.report import Report
from sitewright.errors import SitewrightError

# A graceful shutdown that takes longer ends in a power cut, as on the site's BMCs.
GRACE_SECONDS = 60.0
WATCH_SECONDS = 1.0


class Machines(Protocol):
    """What is used of `lab.machine`."""

    REBOOT_STATUS: int

    def state(self, name: str) -> Literal["running", "stopped"]: ...
    def kill(self, name: str) -> None: ...
    def power_off(self, name: str, grace: float = ...) -> None: ...
    def clean(self, name: str) -> None: ...
    def exit_status(self, name: str) -> int | None: ...
    def init_pid(self, name: str) -> int | None: ...


class NodePower:
    """boot: brings the node up, or raises Stopped when its event is set. machines: `lab.machine`, or what does the same
    for another kind of machine. watch: instead of waiting for the node's process; returns when the node is off or its
    event is set."""

    def __init__(
        self,
        xname: str,
        boot: Callable[[threading.Event], None],
        report: Report,
        machines: Machines = real_machine,
        watch: Callable[[threading.Event], None] | None = None,
    ) -> None:
        self._xname = xname
        self._boot = boot
        self._report = report
        self._machines = machines
        self._watch = watch or self._wait
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._life: threading.Thread | None = None

    def adopt(self) -> None:
        """Take over from an earlier process of this BMC: a node that ran runs on, one that booted boots."""
        progress = self._report.progress
        if self._machines.state(self._xname) == "running":
            self._begin(running=True)
        elif self._report.was_booting():
            self._report.console("the BMC was restarted while the node was booting: it boots again")
            self._machines.clean(self._xname)
            self._begin()
        else:
            self._machines.clean(self._xname)
            if progress.power == "On":
                self._report.stage("off", "the node was off when the BMC started", power="Off")

    @property
    def state(self) -> Literal["On", "Off"]:
        return "On" if self._life is not None and self._life.is_alive() else "Off"

    def on(self) -> None:
        with self._lock:
            if self.state == "Off":
                self._begin()

    def off(self) -> None:
        """A power cut. Returns once the node is off and its memory given back."""
        with self._lock:
            self._stop.set()
            while self._life is not None and self._life.is_alive():
                # More than once: the node may be on the point of starting when the power goes.
                self._machines.kill(self._xname)
                self._life.join(0.2)

    def shutdown(self) -> None:
        """Ask the node to shut down, in the background; the power is cut after GRACE_SECONDS."""
        threading.Thread(target=self._shut_down, daemon=True).start()

    def restart(self, graceful: bool) -> None:
        """Off and on again; a graceful one in the background, since the node takes its time."""
        if graceful:
            threading.Thread(target=self._restart_gracefully, daemon=True).start()
        else:
            self._restart()

    def _restart(self) -> None:
        with self._lock:
            self.off()
            self.on()

    def _restart_gracefully(self) -> None:
        self._shut_down()
        self._restart()

    def _shut_down(self) -> None:
        life = self._life
        if self._machines.state(self._xname) == "running":
            self._report.stage("shutdown", "asked to shut down")
            self._machines.power_off(self._xname, GRACE_SECONDS)
        else:
            self._stop.set()  # not even started: there is nobody to ask
        if life is not None:
            life.join(GRACE_SECONDS)

    def _begin(self, running: bool = False) -> None:
        self._stop = threading.Event()
        self._life = threading.Thread(target=self._live, args=(self._stop, running), daemon=True)
        self._life.start()

    def _live(self, stop: threading.Event, running: bool) -> None:
        """Boot and stay until the node is off; a node that asks for a reboot boots from the network again."""
        detail, error = "", ""
        try:
            if not running:
                self._boot(stop)
            self._watch(stop)
            while self._wants_reboot(stop):
                self._report.console("the node reboots")
                self._machines.clean(self._xname)
                self._boot(stop)
                self._watch(stop)
            detail = self._why_off(stop)
        except Stopped:
            detail = "power off while booting"
        except SitewrightError as problem:
            error = str(problem)
        except Exception as problem:  # a thread has nobody above it to tell
            error = f"{type(problem).__name__}: {problem}"
        finally:
            self._machines.clean(self._xname)
            self._report.stage("off", detail, error, power="Off")

    def _wants_reboot(self, stop: threading.Event) -> bool:
        return not stop.is_set() and self._machines.exit_status(self._xname) == self._machines.REBOOT_STATUS

    def _why_off(self, stop: threading.Event) -> str:
        if stop.is_set():
            return "power off"
        status = self._machines.exit_status(self._xname)
        return "the node shut itself down" if status == 0 else "the node's power was cut"

    def _wait(self, stop: threading.Event) -> None:
        """Return when the machine is off, or `stop` is set."""
        while not stop.is_set() and self._machines.state(self._xname) == "running":
            wait_for_process(self._machines.init_pid(self._xname), stop)


def wait_for_process(pid: int | None, stop: threading.Event) -> None:
    """Return when the process has ended, or `stop` is set. Costs next to nothing meanwhile."""
    try:
        process = os.pidfd_open(pid) if pid else -1
    except ProcessLookupError:
        process = -1
    if process < 0:
        stop.wait(0.05)  # gone already, or not there yet
        return
    try:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        while not stop.is_set() and not poll.poll(WATCH_SECONDS * 1000):
            pass
    finally:
        os.close(process)
