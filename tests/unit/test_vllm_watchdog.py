"""When a replica counts as hung. Metrics as vLLM 0.32 writes them (v1/metrics/loggers.py)."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modules.inference import vllm_watchdog
from modules.inference.vllm_watchdog import PATIENCE, QUIET, seen

ENGINE = '{engine="0",model_name="tiny"}'


def metrics(running: float, iterations: float, cache: float, engine: str = ENGINE) -> str:
    return (
        "# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
        "# TYPE vllm:num_requests_running gauge\n"
        f"vllm:num_requests_running{engine} {running}\n"
        f"vllm:kv_cache_usage_perc{engine} {cache}\n"
        f'vllm:iteration_tokens_total_bucket{{engine="0",le="1.0",model_name="tiny"}} 7.0\n'
        f"vllm:iteration_tokens_total_count{engine} {iterations}\n"
        f"vllm:iteration_tokens_total_created{engine} 1.7e+09\n"
    )


@pytest.mark.parametrize(
    ("later", "stands_since"),
    [
        (metrics(2, 10, 0.5), 0.0),
        (metrics(2, 11, 0.5), 60.0),  # an iteration ended
        (metrics(2, 10, 0.6), 60.0),  # a long prompt, which makes no token yet, fills the cache
        (metrics(0, 10, 0.5), 60.0),  # its work came to an end
    ],
)
def test_an_engine_stands_since_it_last_got_on(later: str, stands_since: float) -> None:
    first = seen(metrics(2, 10, 0.5), {}, 0.0)
    found = seen(later, json.loads(json.dumps(first)), 60.0)
    assert [since for _, since in found.values()] == [stands_since]


def test_one_engine_of_two_that_hangs_is_not_hidden_by_the_other() -> None:
    other = '{engine="1",model_name="tiny"}'
    first = seen(metrics(1, 10, 0.1) + metrics(1, 10, 0.1, other), {}, 0.0)
    found = seen(metrics(1, 99, 0.1) + metrics(1, 10, 0.1, other), first, 60.0)
    assert {engine: since for engine, (_, since) in found.items()} == {ENGINE: 60.0, other: 0.0}


class _Vllm(http.server.ThreadingHTTPServer):
    """asked: models from which a token was wanted; hangs: nobody gets one."""

    health, metrics, hangs = 200, "", False

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.asked: list[str] = []
        self.over = threading.Event()


class _Request(http.server.BaseHTTPRequestHandler):
    server: _Vllm

    def do_GET(self) -> None:
        self.send_response(self.server.health if self.path == "/health" else 200)
        self.end_headers()
        models = b'{"data": [{"id": "tiny"}, {"id": "tiny-adapter"}]}'
        told = {"/metrics": self.server.metrics.encode(), "/v1/models": models}
        self.wfile.write(told.get(self.path, b""))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/completions" and body["max_tokens"] == 1
        self.server.asked.append(body["model"])
        if self.server.hangs:
            self.server.over.wait(30)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: a test's output is for its failure."""


@pytest.fixture
def vllm() -> Iterator[_Vllm]:
    with _Vllm(("127.0.0.1", 0), _Request) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


def look(server: _Vllm, memory: Path) -> subprocess.CompletedProcess[str]:
    """As the kubelet runs it: a text, a bare interpreter, and nothing of this repository."""
    source = Path(vllm_watchdog.__file__).read_text().replace(str(vllm_watchdog.MEMORY), str(memory))
    source = source.replace("TIMEOUT = 10", "TIMEOUT = 0.5")
    command = [sys.executable, "-I", "-S", "-c", source, str(server.server_port)]
    return subprocess.run(command, cwd="/", text=True, capture_output=True, check=False)


def test_a_replica_that_gets_on_is_alive_and_one_that_stands_is_not(vllm: _Vllm, tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    vllm.metrics = metrics(1, 10, 0.1)
    assert look(vllm, memory).returncode == look(vllm, memory).returncode == 0
    [(engine, (place, since))] = json.loads(memory.read_text()).items()
    memory.write_text(json.dumps({engine: [place, since - PATIENCE - 1]}))
    hung = look(vllm, memory)
    assert hung.returncode == 1 and "has requests and stands at" in hung.stderr
    vllm.metrics = metrics(1, 11, 0.1)
    assert look(vllm, memory).returncode == 0


@pytest.mark.parametrize(("hangs", "status"), [(False, 0), (True, 1)])
def test_an_engine_that_is_idle_is_asked_for_a_token_now_and_then(
    vllm: _Vllm, tmp_path: Path, hangs: bool, status: int
) -> None:
    """Stopped while it had nothing to do, it never says that it has requests in work."""
    memory = tmp_path / "memory.json"
    vllm.metrics, vllm.hangs = metrics(0, 10, 0.0), hangs
    assert look(vllm, memory).returncode == 0
    assert vllm.asked == []
    [(engine, (place, since))] = json.loads(memory.read_text()).items()
    memory.write_text(json.dumps({engine: [place, since - QUIET - 1]}))
    assert look(vllm, memory).returncode == status
    assert vllm.asked == ["tiny"]


def test_a_replica_that_says_it_is_broken_or_says_nothing_is_not_alive(vllm: _Vllm, tmp_path: Path) -> None:
    vllm.health = 503
    assert look(vllm, tmp_path / "memory.json").returncode == 1
    vllm.shutdown()
    vllm.server_close()
    assert look(vllm, tmp_path / "memory.json").returncode == 1
