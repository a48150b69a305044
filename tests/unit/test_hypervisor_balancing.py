"""What the lab's load balancer does with connections: the real haproxy, on addresses of this machine."""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from lab.commands import SYSTEM_PATH
from lab.hypervisor.balancing import Balancer, Server, configuration

ADDRESS, HERE, GONE = "127.0.0.81", "127.0.0.82", "127.0.0.83"
PORT = 26443


def balancer(*servers: str) -> Balancer:
    return Balancer(
        name="lab-api",
        address=ADDRESS,
        ports=((PORT, PORT),),
        servers=tuple(Server(f"cp{number}", address) for number, address in enumerate(servers, 1)),
        check_port=PORT,
        check_period=5,
        check_timeout=3,
        rise=1,
        fall=3,
    )


@pytest.fixture
def started(tmp_path):
    """Starts haproxy as the lab does, but in the foreground."""
    running: list[subprocess.Popen[bytes]] = []

    def start(it: Balancer) -> None:
        (file := tmp_path / "haproxy.cfg").write_text(configuration(it))
        command = ["haproxy", "-q", "-db", "-f", str(file)]
        running.append(subprocess.Popen(command, env={"PATH": SYSTEM_PATH}))
        deadline = time.monotonic() + 10
        while f"{ADDRESS}:{PORT}" not in listening() and running[0].poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    yield start
    for process in running:
        process.kill()
        process.wait()


def listening() -> str:
    return subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout


def ask() -> bytes:
    with socket.create_connection((ADDRESS, PORT), timeout=5) as connection:
        return connection.recv(100)


@pytest.fixture
def serve():
    """Starts a server at an address, which says what it is told. Gives its end."""
    listeners: list[socket.socket] = []

    def start(address: str, words: bytes) -> Callable[[], None]:
        listener = socket.create_server((address, PORT))
        listeners.append(listener)

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(words)

        threading.Thread(target=answer, daemon=True).start()
        # A close alone would leave `accept` waiting, and the port open.
        return lambda: listener.shutdown(socket.SHUT_RDWR)

    yield start
    for listener in listeners:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_a_connection_never_fails_for_a_server_that_has_just_gone(started, serve):
    """Checks need 10 seconds to find out about it."""
    end = serve(GONE, b"gone")
    serve(HERE, b"here")
    started(balancer(GONE, HERE))
    assert {ask() for _ in range(6)} == {b"here", b"gone"}
    end()
    assert {ask() for _ in range(6)} == {b"here"}


def test_without_a_server_it_listens_and_hangs_up(started):
    started(balancer())
    assert ask() == b""


def test_the_ports_in_front_and_behind_may_differ():
    text = configuration(Balancer("x", ADDRESS, ((443, 6443),), (Server("cp1", HERE),), 6443, 5, 3, 1, 3))
    assert f"bind {ADDRESS}:443\n" in text and f"server cp1 {HERE}:6443 check port 6443 inter 5s" in text
