"""Before a replica is told to end: one that serves is given time, one that still starts is killed."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modules.inference import vllm_stop

PROGRAM = Path(vllm_stop.__file__).read_text()
SLEEPS = "import time; time.sleep(60)"


@pytest.fixture
def port() -> Iterator[int]:
    """Bound, as vLLM does it first, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def stop(port: int, seconds: str = "0.5") -> float:
    """As the kubelet runs it. Returns: how long it took."""
    # Nothing of this machine is to be killed: a server is what the test says it is.
    program = PROGRAM.replace(vllm_stop.SERVER.decode(), f"server-of-{port}")
    began = time.monotonic()
    subprocess.run([sys.executable, "-I", "-S", "-c", program, str(port), seconds], check=True, timeout=30)
    return time.monotonic() - began


def test_a_server_that_does_not_listen_yet_is_killed(port: int):
    with subprocess.Popen([sys.executable, "-c", SLEEPS, f"server-of-{port}"]) as server:
        assert stop(port, "30") < 20
        assert server.wait(10) == -9


def test_a_server_that_listens_is_left_alone_for_a_while():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with subprocess.Popen([sys.executable, "-c", SLEEPS, f"server-of-{port}"]) as server:
            assert stop(port) >= 0.5
            assert server.poll() is None
            server.kill()


def test_only_the_server_is_meant(tmp_path: Path):
    commands = {"7": b"python\0-m\0vllm.entrypoints.openai.api_server\0--port\0", "9": b"VLLM::EngineCore\0"}
    for number, command in commands.items():
        (tmp_path / number).mkdir()
        (tmp_path / number / "cmdline").write_bytes(command)
    assert vllm_stop.servers(tmp_path) == [7]
