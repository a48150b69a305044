"""What the lab's load balancer does with connections: the real haproxy, on addresses of this machine."""

import socket
import subprocess
import threading
import time

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
def server():
    with socket.create_server((HERE, PORT)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"here")

        threading.Thread(target=serve, daemon=True).start()
        yield


def test_every_connection_reaches_a_server_that_lives(started, server):
    """Right from the start: checks need 15 seconds to find out about the other one."""
    started(balancer(GONE, HERE))
    assert [ask() for _ in range(6)] == [b"here"] * 6


def test_without_a_server_it_listens_and_hangs_up(started):
    started(balancer())
    assert ask() == b""


def test_the_ports_in_front_and_behind_may_differ():
    text = configuration(Balancer("x", ADDRESS, ((443, 6443),), (Server("cp1", HERE),), 6443, 5, 3, 1, 3))
    assert f"bind {ADDRESS}:443\n" in text and f"server cp1 {HERE}:6443 check port 6443 inter 5s" in text
