"""A hypervisor for tests: a real API server, the real controller, and a host that only pretends.

Nothing here needs root. Every machine is an entry in `FakeHost.machines`.
"""

import asyncio
import base64
import contextlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kopf
import yaml

from lab.hypervisor import definitions
from lab.hypervisor.api import NAMESPACE, Api, ApiError, Kind, Object
from lab.hypervisor.controller import registry
from lab.hypervisor.host import Boot
from tools.locate import tool

TOKEN = "only-for-this-test"
SHA512_OF_IMAGE = 128 * "0"


@dataclass
class FakeMachine:
    boot: Boot
    running: bool = True
    ended_well: bool = False


@dataclass
class FakeHost:
    """Remembers what the controller did. starts: names, in order; broken: names that fail to start."""

    machines: dict[str, FakeMachine] = field(default_factory=dict)
    mounted: set[Path] = field(default_factory=set)
    starts: list[str] = field(default_factory=list)
    graces: list[float] = field(default_factory=list)

    def mount_image(self, file: Path, target: Path) -> None:
        assert file.exists()
        self.mounted.add(target)

    def unmount_image(self, target: Path) -> None:
        self.mounted.discard(target)

    def start(self, boot: Boot) -> None:
        assert not self.runs(boot.name), f"{boot.name} started twice"
        assert boot.image in self.mounted
        self.starts.append(boot.name)
        self.machines[boot.name] = FakeMachine(boot)

    def power_off(self, name: str, grace: float) -> None:
        self.graces.append(grace)
        self.end(name, well=True)

    def remove(self, name: str) -> None:
        self.machines.pop(name, None)

    def runs(self, name: str) -> bool:
        return name in self.machines and self.machines[name].running

    def ended_well(self, name: str) -> bool:
        return self.machines[name].ended_well

    def owner(self, name: str) -> str:
        return self.machines[name].boot.owner if name in self.machines else ""

    def addresses(self, name: str) -> list[str]:
        return ["10.1.0.10"] if self.runs(name) else []

    def answers(self, address: str) -> bool:
        return True

    def end(self, name: str, well: bool) -> None:
        """The machine goes off: shut down from inside, or crashed."""
        self.machines[name].running, self.machines[name].ended_well = False, well


@contextlib.contextmanager
def api_server(directory: Path) -> Iterator[Path]:
    """etcd and kube-apiserver on ports that are free now. Gives the kubeconfig."""
    client, peer, secure = free_ports(3)
    subprocess.run(["openssl", "genrsa", "-out", directory / "sa.key", "2048"], check=True, capture_output=True)
    (directory / "tokens.csv").write_text(f"{TOKEN},test,test,system:masters\n")
    etcd_url, peers = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    commands = [
        [
            *("etcd", f"--data-dir={directory}/etcd", "--unsafe-no-fsync", "--log-level=error"),
            *(f"--listen-client-urls={etcd_url}", f"--advertise-client-urls={etcd_url}"),
            *(f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}"),
            f"--initial-cluster=default={peers}",
        ],
        [
            *("kube-apiserver", f"--etcd-servers={etcd_url}", "--bind-address=127.0.0.1", f"--secure-port={secure}"),
            *(f"--cert-dir={directory}/certs", f"--service-account-key-file={directory}/sa.key"),
            f"--service-account-signing-key-file={directory}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            *(f"--token-auth-file={directory}/tokens.csv", "--authorization-mode=RBAC"),
            *("--service-cluster-ip-range=10.96.0.0/16", "--disable-admission-plugins=ServiceAccount"),
            "--endpoint-reconciler-type=none",
        ],
    ]
    with contextlib.ExitStack() as started:
        for command in commands:
            started.enter_context(_process([str(tool(command[0])), *command[1:]], directory / f"{command[0]}.log"))
        yield _kubeconfig(directory, secure)


@contextlib.contextmanager
def _process(command: list[str], log: Path) -> Iterator[None]:
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield
        finally:
            process.kill()


def _kubeconfig(directory: Path, port: int) -> Path:
    server = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": server}],
        "users": [{"name": "test", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    file = directory / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


@contextlib.contextmanager
def controller(api: Api, host: FakeHost) -> Iterator[None]:
    """The controller, in a thread of its own; stopped at the end, machines staying as they are."""
    stop = threading.Event()

    def run() -> None:
        handlers = registry(api, host, threading.Event())
        asyncio.run(kopf.operator(registry=handlers, clusterwide=True, standalone=True, stop_flag=stop))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def ready_api(kubeconfig: Path) -> Api:
    """A connection to an API server that serves the hypervisor's kinds."""
    os.environ["KUBECONFIG"] = str(kubeconfig)  # kopf finds it nowhere else
    api = Api(kubeconfig)
    definitions.install(api)
    return api


def make_namespace(api: Api, name: str) -> None:
    api.create_if_absent(NAMESPACE, {"metadata": {"name": name}})


def until(look: Callable[[], Any], what: str, timeout: float = 10.0) -> Any:
    """What `look` returns, once that is something."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < deadline, f"not seen within {timeout} s: {what}"
        time.sleep(0.03)
    return found


def secret(name: str, namespace: str, **entries: str) -> Object:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in entries.items()}
    return {"metadata": {"name": name, "namespace": namespace}, "data": data}


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for entry in sockets:
            entry.bind(("127.0.0.1", 0))
        return [entry.getsockname()[1] for entry in sockets]
