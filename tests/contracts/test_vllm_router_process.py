"""The real vllm-router, with the arguments of its pods, in front of stand-ins for vLLM and a real API server.

Pods are objects of the API here: the test says which are ready, and stand-ins listen at their addresses.
"""

import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import kubernetes
import pytest
import uvicorn
from fastapi import Request

from modules.inference.vllm_pod import PORT
from modules.inference.vllm_router import VllmRouterSpec, arguments
from tests.contracts.fake_hypervisor import api_server
from tests.lab.gateway_program import StandIn, chat, free_port, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

ADDRESSES = {"m-0": "127.0.9.1", "m-1": "127.0.9.2"}
STOP_SECONDS = 20


class Replica:
    """A stand-in for vLLM at a pod's address, which says its name in each answer."""

    def __init__(self, name: str) -> None:
        self.name, self.stand_in = name, StandIn()
        self.stand_in.app.middleware("http")(self._sign)
        self.start()

    async def _sign(self, request: Request, answer):
        response = await answer(request)
        response.headers["x-replica"] = self.name
        return response

    def start(self) -> None:
        self.server = uvicorn.Server(
            uvicorn.Config(self.stand_in.app, host=ADDRESSES[self.name], port=PORT, log_level="critical")
        )
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_for(lambda: self.server.started, self.name)

    def die(self) -> None:
        self.server.force_exit = self.server.should_exit = True
        self.thread.join(10)


class Pods:
    def __init__(self, kubeconfig: Path) -> None:
        kubernetes.config.load_kube_config(str(kubeconfig))
        self.core = kubernetes.client.CoreV1Api()

    def add(self, name: str) -> None:
        spec = {"containers": [{"name": "vllm", "image": "i"}], "nodeName": "x1000c0s0b0n0"}
        labels = {"app.kubernetes.io/name": "tiny"}
        self.core.create_namespaced_pod(
            "default", {"metadata": {"name": name, "labels": labels}, "spec": spec}
        )
        self.ready(name, True)

    def ready(self, name: str, ready: bool) -> None:
        said, address = str(ready), ADDRESSES[name]
        conditions = [{"type": kind, "status": said} for kind in ("Ready", "ContainersReady")]
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}
        self.core.patch_namespaced_pod_status(name, "default", {"status": status})

    def delete(self, name: str, grace: int) -> None:
        self.core.delete_namespaced_pod(name, "default", grace_period_seconds=grace)


class Router:
    def __init__(self, kubeconfig: Path, log: Path, policy: str) -> None:
        spec = VllmRouterSpec(model="tiny", image="i", python="p", pool="gpu", policy=policy)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.metrics = f"http://127.0.0.1:{(metrics := free_port())}/metrics"
        listen = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(metrics)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vllm_router.launch_router", *listen, *arguments(spec)],
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
        )
        self.client = httpx.Client(base_url=self.url, timeout=30)
        wait_for(lambda: self.status("/liveness") == 200, "the router")

    def status(self, path: str) -> int:
        try:
            return self.client.get(path).status_code
        except httpx.TransportError:
            return 0

    def chat(self, model: str = "ok", session: str | None = None, **more) -> httpx.Response:
        headers = {"X-Session-ID": session} if session else {}
        return self.client.post("/v1/chat/completions", json=chat(model) | more, headers=headers)

    def known(self) -> int:
        """How many replicas it says it knows, where Prometheus asks."""
        [count] = re.findall(r"^vllm_router_active_workers (\d+)$", httpx.get(self.metrics).text, re.M)
        return int(count)

    def answering(self, requests: int = 12) -> set[str]:
        answers = [self.chat(session=f"s{place}") for place in range(requests)]
        return {answer.headers.get("x-replica", str(answer.status_code)) for answer in answers}

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        self.client.close()


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with api_server(tmp_path_factory.mktemp("api")) as path:
        yield path


@pytest.fixture
def replicas() -> Iterator[dict[str, Replica]]:
    made = {name: Replica(name) for name in ADDRESSES}
    yield made
    for replica in made.values():
        replica.die()


@pytest.fixture
def pods(kubeconfig: Path) -> Iterator[Pods]:
    made = Pods(kubeconfig)
    for name in ADDRESSES:
        made.add(name)
    yield made
    for pod in made.core.list_namespaced_pod("default").items:
        made.delete(pod.metadata.name, 0)


@pytest.fixture(params=["consistent_hash"])
def router(request, kubeconfig: Path, tmp_path: Path, pods: Pods, replicas) -> Iterator[Router]:
    made = Router(kubeconfig, tmp_path / "log", request.param)
    wait_for(lambda: made.answering() == set(ADDRESSES), "both replicas")
    yield made
    made.stop()


def test_a_replica_gets_requests_while_it_is_ready_and_only_then(router: Router, pods: Pods):
    for change, there in (
        (lambda: pods.ready("m-1", False), {"m-0"}),
        (lambda: pods.ready("m-1", True), {"m-0", "m-1"}),
        (lambda: pods.delete("m-1", 60), {"m-0"}),  # asked to end, and still there
        (lambda: pods.delete("m-1", 0), {"m-0"}),
        (lambda: pods.add("m-1"), {"m-0", "m-1"}),
    ):
        change()
        began = time.monotonic()
        wait_for(lambda wanted=there: router.answering() == wanted, f"answers of {there} only", 5)
        print(f"\n{there}: after {time.monotonic() - began:.2f} s")
        wait_for(lambda wanted=there: router.known() == len(wanted), f"{len(there)} in its metrics", 10)


def test_the_open_streams_of_a_replica_that_leaves_end_whole(router: Router, pods: Pods):
    ends: list[str] = []

    def follow(session: str) -> None:
        ends.append(router.chat("slow", session, stream=True).text[-20:])

    threads = [threading.Thread(target=follow, args=(f"s{place}",)) for place in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    pods.delete("m-1", 60)
    for thread in threads:
        thread.join(30)
    assert len(ends) == 8
    assert all("[DONE]" in end for end in ends)


def test_after_a_crash_errors_stop_though_the_api_says_nothing(router: Router, replicas):
    replicas["m-1"].die()
    died, failed = time.monotonic(), []
    while time.monotonic() - died < STOP_SECONDS:
        for place in range(10):
            if router.chat(session=f"s{place}").status_code != 200:
                failed.append(time.monotonic() - died)
        time.sleep(0.2)
    print(f"\nafter a crash {len(failed)} requests failed, the last {max(failed, default=0):.1f} s after it")
    assert max(failed, default=0) < STOP_SECONDS - 5
    assert router.answering() == {"m-0"}


def test_a_session_stays_on_its_replica(router: Router):
    by_session = {
        session: {router.chat(session=session).headers["x-replica"] for _ in range(5)}
        for session in map(str, range(12))
    }
    assert all(len(replicas) == 1 for replicas in by_session.values())
    assert len(set.union(*by_session.values())) == 2


def test_errors_of_clients_are_passed_on_and_no_replica_is_left_out_for_them(router: Router):
    for place in range(30):
        refused = router.chat("long", session=f"s{place}")
        assert (refused.status_code, refused.json()["error"]["type"]) == (400, "BadRequestError")
        assert "maximum context length" in refused.json()["error"]["message"]
    assert router.answering() == set(ADDRESSES)


def test_a_session_on_an_overloaded_replica_is_told_so(router: Router, replicas):
    """consistent_hash tries again where the session is."""
    replicas["m-1"].stand_in.full = True
    assert {router.chat(session=f"s{place}").status_code for place in range(3)} <= {200, 503}
    replicas["m-1"].stand_in.full = False
    wait_for(lambda: router.answering() == set(ADDRESSES), "both replicas after overload", 30)


@pytest.mark.parametrize("router", ["round_robin"], indirect=True)
def test_a_request_to_an_overloaded_replica_is_tried_at_the_other(router: Router, replicas):
    replicas["m-1"].stand_in.full = True
    answers = [router.chat(session=f"s{place}") for place in range(20)]
    assert [answer.status_code for answer in answers] == [200] * 20


@pytest.mark.parametrize("router", ["round_robin"], indirect=True)
def test_many_streams_at_once_come_whole(router: Router):
    answers: list[str] = []
    # A connection for each, and none kept: while many threads share a pool, one may close a kept connection that was
    # just given to another, whose read then fails with EBADF.
    each_its_own = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    with httpx.Client(base_url=router.url, timeout=30, limits=each_its_own) as client:

        def ask() -> None:
            body = chat("slow") | {"stream": True}
            answers.append(client.post("/v1/chat/completions", json=body).text)

        threads = [threading.Thread(target=ask) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert Counter("[DONE]" in answer for answer in answers) == {True: 200}


def test_it_ends_politely_and_at_once_where_nothing_is_open(router: Router):
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(router.chat("slow", stream=True).text))
    thread.start()
    time.sleep(1)
    router.process.terminate()
    assert router.process.wait(30) == 0
    thread.join(10)
    assert "[DONE]" in answers[0]


def test_it_does_what_anybody_says_so_nobody_but_the_gateway_may_reach_it(router: Router):
    """Why its network policy is what it is: if one day it asks for a key, this fails and the policy may be wider."""
    assert router.client.get("/workers").status_code == 200
    assert router.client.post("/v1/load_lora_adapter", json={"model": "ok"}).status_code == 200
    removed = router.client.post("/remove_worker", params={"url": f"http://{ADDRESSES['m-1']}:{PORT}"})
    assert removed.status_code == 200


def test_what_it_adds_to_a_request(router: Router):
    """A figure, not a limit: the machine may be busy."""

    def median(url: str) -> float:
        with httpx.Client(timeout=30) as client:
            times = []
            for _ in range(100):
                began = time.monotonic()
                assert client.post(f"{url}/v1/chat/completions", json=chat("ok")).status_code == 200
                times.append(time.monotonic() - began)
        return statistics.median(times)

    direct, routed = median(f"http://{ADDRESSES['m-0']}:{PORT}"), median(router.url)
    print(f"\nrouter p50: direct {direct * 1000:.1f} ms, routed {routed * 1000:.1f} ms")
