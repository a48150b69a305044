"""A hypervisor for tests: a real API server, the real controller, and a host that only pretends.

Nothing here needs root. Every machine is an entry in `FakeHost.machines`.
"""

import asyncio
import contextlib
import http.server
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import kopf
import pytest
import yaml

from lab.hypervisor import definitions, policies
from lab.hypervisor.api import Api
from lab.hypervisor.balancing import Balancer
from lab.hypervisor.controller import registry
from lab.hypervisor.host import Boot
from sitewright.errors import SitewrightError
from tools.locate import tool

TOKEN = "only-for-this-test"


@dataclass
class FakeMachine:
    boot: Boot
    running: bool = True
    ended_well: bool = False


@dataclass
class FakeHost:
    """Remembers what the controller did. starts: names, in order; broken: names that fail to start;
    balancers: by name, as they were last asked for."""

    machines: dict[str, FakeMachine] = field(default_factory=dict)
    mounted: set[Path] = field(default_factory=set)
    starts: list[str] = field(default_factory=list)
    graces: list[float] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    balancers: dict[str, Balancer] = field(default_factory=dict)

    def mount_image(self, file: Path, target: Path) -> None:
        assert file.exists()
        self.mounted.add(target)

    def unmount_image(self, target: Path) -> None:
        self.mounted.discard(target)

    def start(self, boot: Boot) -> None:
        assert not self.runs(boot.name), f"{boot.name} started twice"
        assert boot.image in self.mounted
        if boot.name in self.broken:
            raise SitewrightError(f"machine {boot.name} does not start")
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

    def balance(self, balancer: Balancer) -> None:
        self.balancers[balancer.name] = balancer

    def unbalance(self, name: str, address: str) -> None:
        if name in self.balancers:
            assert self.balancers.pop(name).address == address

    def end(self, name: str, well: bool) -> None:
        """The machine goes off: shut down from inside, or crashed."""
        self.machines[name].running, self.machines[name].ended_well = False, well


@contextlib.contextmanager
def api_server(directory: Path, client_ca: Path | None = None) -> Iterator[Path]:
    """etcd and kube-apiserver, ready, on ports that are free now. Gives the kubeconfig.

    client_ca: whose certificates are believed, those of nodes among them, which then have a node's rights.
    """
    client, peer, secure = free_ports(3)
    subprocess.run(
        ["openssl", "genrsa", "-out", directory / "sa.key", "2048"], check=True, capture_output=True
    )
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
            *(
                "kube-apiserver",
                f"--etcd-servers={etcd_url}",
                "--bind-address=127.0.0.1",
                f"--secure-port={secure}",
            ),
            *(f"--cert-dir={directory}/certs", f"--service-account-key-file={directory}/sa.key"),
            f"--service-account-signing-key-file={directory}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={directory}/tokens.csv",
            *("--service-cluster-ip-range=10.96.0.0/16", "--disable-admission-plugins=ServiceAccount"),
            "--endpoint-reconciler-type=none",
        ],
    ]
    commands[1].append(f"--authorization-mode={'Node,RBAC' if client_ca else 'RBAC'}")
    if client_ca:
        commands[1] += [f"--client-ca-file={client_ca}", "--enable-admission-plugins=NodeRestriction"]
    with contextlib.ExitStack() as started:
        for command in commands:
            started.enter_context(
                process([str(tool(command[0])), *command[1:]], directory / f"{command[0]}.log")
            )
        until(lambda: _ready(secure), "the API server is ready", 60)
        yield _kubeconfig(directory, secure)


def _ready(port: int) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"https://127.0.0.1:{port}/readyz", verify=False).status_code == 200
    return False


@contextlib.contextmanager
def controllers(
    directory: Path,
    kubeconfig: Path,
    names: str = "garbage-collector-controller",
    arguments: Sequence[str] = (),
) -> Iterator[None]:
    """Kubernetes' own. To be started once the kinds are served: garbage is looked for in new ones every 30 s only.

    arguments: more of them, for controllers that need some.
    """
    [port] = free_ports(1)
    command = [
        *(str(tool("kube-controller-manager")), f"--kubeconfig={kubeconfig}", "--leader-elect=false"),
        *(f"--controllers={names}", "--bind-address=127.0.0.1", f"--secure-port={port}"),
        f"--cert-dir={directory}/controllers",
        *arguments,
    ]
    with process(command, directory / "controllers.log"):
        yield


@contextlib.contextmanager
def process(
    command: list[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Until the block ends. environment: instead of this process's own."""
    with (
        log.open("w") as output,
        subprocess.Popen(command, stdout=output, stderr=output, env=environment) as running,
    ):
        try:
            yield running
        finally:
            running.kill()


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


@dataclass(frozen=True)
class Running:
    """The controller against a real API server, with a pretended host and an image server."""

    directory: Path
    kubeconfig: Path
    api: Api
    images: "ImageServer"
    host: "FakeHost"
    controller: "Controller"


@contextlib.contextmanager
def running(content: bytes) -> Iterator[Running]:
    """All of it in a directory of its own, which goes with it. content: of the image that is served."""
    with contextlib.ExitStack() as undo:
        directory = Path(tempfile.mkdtemp(prefix="hypervisor-"))
        undo.callback(shutil.rmtree, directory)
        environment = undo.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("SITEWRIGHT_LAB_STATE_DIR", str(directory / "state"))
        kubeconfig = undo.enter_context(api_server(directory))
        environment.setenv("KUBECONFIG", str(kubeconfig))
        api = Api(kubeconfig)
        definitions.install(api)
        policies.install(api)
        undo.enter_context(controllers(directory, kubeconfig))
        images = ImageServer(content)
        undo.callback(images.server_close)
        undo.callback(images.shutdown)
        host = FakeHost()
        controller = Controller(api, host)
        controller.start()
        undo.callback(controller.stop)
        yield Running(directory, kubeconfig, api, images, host, controller)


class Controller:
    """The controller, in a thread of its own. Stopping it leaves machines as they are, as a crash would."""

    def __init__(self, api: Api, host: FakeHost) -> None:
        self._api, self._host = api, host
        self._stop = threading.Event()

    def start(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        handlers = registry(self._api, self._host, threading.Event())
        asyncio.run(kopf.operator(registry=handlers, clusterwide=True, standalone=True, stop_flag=self._stop))


def until(look: Callable[[], Any], what: str, timeout: float = 10.0) -> Any:
    """What `look` returns, once that is something."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < deadline, f"not seen within {timeout} s: {what}"
        time.sleep(0.03)
    return found


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for entry in sockets:
            entry.bind(("127.0.0.1", 0))
        return [entry.getsockname()[1] for entry in sockets]


class ImageServer(http.server.ThreadingHTTPServer):
    """Serves `content` at any path, with ranges. Turned down it answers 503; cut_at: bytes sent of a whole
    file before the connection breaks, once. requests: the Range header of each request."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _ImageRequest)
        self.content = content
        self.down = False
        self.cut_at: int | None = None
        self.requests: list[str | None] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}.squashfs"


class _ImageRequest(http.server.BaseHTTPRequestHandler):
    server: ImageServer

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append(asked)
        if self.server.down:
            self.send_error(503)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        body = self.server.content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut, self.server.cut_at = self.server.cut_at, None
        self.wfile.write(body[:cut])

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test's output is for its failure."""
