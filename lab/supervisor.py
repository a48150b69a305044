"""The lab's supervisord: started detached, spoken to over its socket."""

import os
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from lab import cgroup, paths
from lab.commands import SYSTEM_PATH
from lab.namespace import wait_until
from lab.services import Service, socket_file, supervisord_conf
from sitewright.errors import SitewrightError

START_SECONDS = 20
# All that services get of the environment of `lab up`: a passphrase in there is none of their business.
INHERITED = ("HOME", "LANG", "TZ")
STOP_SECONDS = 20  # supervisord itself kills what takes longer than `stopwaitsecs`


def apply(services: list[Service]) -> None:
    """Make exactly these services run, each with its present configuration; others end. Those whose
    configuration did not change are left alone. A supervisor that is gone is replaced."""
    file = paths.state_dir() / "etc/supervisord.conf"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(supervisord_conf(services))
    if not alive():
        _start(file)
        return
    with _rpc() as rpc:
        added, changed, removed = rpc.reloadConfig()[0]
        _stop_groups(rpc, [*changed, *removed])
        for name in [*changed, *added]:
            rpc.addProcessGroup(name)
        for info in rpc.getAllProcessInfo():
            if info["statename"] in ("STOPPED", "FATAL", "EXITED"):
                rpc.startProcess(f"{info['group']}:{info['name']}", False)


def alive() -> bool:
    try:
        with _rpc() as rpc:
            return rpc.getState()["statename"] == "RUNNING"
    except (OSError, SitewrightError):
        return False


def processes() -> list[dict[str, Any]]:
    """One dictionary per service, as supervisord's `getAllProcessInfo` says; [] when it does not run."""
    try:
        with _rpc() as rpc:
            return list(rpc.getAllProcessInfo())
    except (OSError, SitewrightError):
        return []


def stop(timeout: float) -> None:
    """Ask every service to end, newest first, and then the supervisor; nothing happens where it is gone."""
    try:
        with _rpc() as rpc:
            rpc.shutdown()
    except (OSError, SitewrightError):
        return
    wait_until(lambda: not cgroup.processes(paths.services_cgroup()), timeout, 0.1)


def _stop_groups(rpc: Any, groups: list[str]) -> None:
    """All at once, then each is forgotten."""
    for name in groups:
        rpc.stopProcessGroup(name, False)
    ended = ("STOPPED", "EXITED", "FATAL")

    def all_ended() -> bool:
        return all(p["statename"] in ended for p in rpc.getAllProcessInfo() if p["group"] in groups)

    if not wait_until(all_ended, STOP_SECONDS, 0.1):
        raise SitewrightError(
            f"services do not end within {STOP_SECONDS} s", "Run `sitewright lab up` again."
        )
    for name in groups:
        rpc.removeProcessGroup(name)


def _start(file: Path) -> None:
    """What an earlier supervisor left running is killed first: nobody watches it any more."""
    group = paths.services_cgroup()
    cgroup.create(group)
    cgroup.kill(group)
    socket_file().unlink(missing_ok=True)
    command = [sys.executable, "-m", "supervisor.supervisord", "--configuration", str(file)]
    log = paths.state_dir() / "logs/supervisord.log"
    with log.open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", *cgroup.wrap(group, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": SYSTEM_PATH} | {n: os.environ[n] for n in INHERITED if n in os.environ},
            cwd="/",
            check=True,
        )
    if not wait_until(alive, START_SECONDS, 0.05):
        tail = " | ".join(log.read_text(errors="replace").splitlines()[-3:])
        raise SitewrightError(f"supervisord does not answer within {START_SECONDS} s: {tail}", f"See {log}.")


@contextmanager
def _rpc() -> Iterator[Any]:
    """The supervisor's methods. Raises OSError where it does not run, SitewrightError for what it refuses."""
    transport = SupervisorTransport(None, None, f"unix://{socket_file()}")
    try:
        yield xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor
    except (xmlrpc.client.Fault, xmlrpc.client.ProtocolError) as problem:
        raise SitewrightError(f"supervisord refuses: {problem}") from problem
    finally:
        transport.close()


def uptime(info: dict[str, Any]) -> float:
    """Seconds since a service was started; 0 when it does not run."""
    return max(0.0, time.time() - info["start"]) if info["statename"] in ("RUNNING", "STARTING") else 0.0
