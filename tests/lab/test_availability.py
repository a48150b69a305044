"""Answers while the site changes under them: update, drain, fewer and more replicas, a power cut, an engine that hangs.

Streams begin at fixed times, through the gateway and, where nothing is broken, at the replicas themselves too.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.bench.figure import Figure
from tests.bench.under_load import keep
from tests.lab.conftest import GATEWAY, MODEL, SITEWRIGHT, eventually, run
from tests.load import OpenLoop

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1500)]

# Streams per second, of each load. One replica must keep up with them on what the start of another leaves of two cores:
# more is answered with 503, rightly, and says nothing about the change.
RATE = 0.3
STOP_SECONDS = 20  # after a power cut no later stream may fail
HANG_SECONDS = 150
ENOUGH = 21  # streams, to say anything


@pytest.fixture
def load(key) -> Callable[..., OpenLoop]:
    return lambda **more: OpenLoop(f"{GATEWAY}/v1", "tiny", RATE, key, **more)


@contextmanager
def both(load: Callable[..., OpenLoop]) -> Iterator[list[OpenLoop]]:
    """Through the gateway, and without it."""
    with ExitStack() as stack:
        yield [stack.enter_context(load()), stack.enter_context(OpenLoop(MODEL, "tiny", RATE, seed=2))]


def all_whole(loads: list[OpenLoop], what: str) -> None:
    for name, load in zip(("gateway", "replicas"), loads, strict=True):
        details = {"through": name, "seen": load.said()}
        keep(Figure(f"{what}.failed_streams", len(load.failed), "streams", 0, details=details))
    assert [load.said() for load in loads if load.failed] == []
    assert all(len(load.streams) >= ENOUGH for load in loads), "too few streams to say anything"


def pods(kubectl, name: str = "tiny") -> list[dict]:
    shown = kubectl("get", "pods", "-l", f"app.kubernetes.io/name={name}", "-o", "json").stdout
    return json.loads(shown)["items"]


def spread(kubectl) -> None:
    """Until replicas of the model and of the gateway are on two nodes: what an update leaves."""
    for name in ("tiny", "llm-gateway"):
        kubectl("rollout", "status", f"deployment/{name}", "--timeout=15m")
        if len({pod["spec"]["nodeName"] for pod in pods(kubectl, name)}) == 1:
            kubectl("rollout", "restart", f"deployment/{name}")
            kubectl("rollout", "status", f"deployment/{name}", "--timeout=15m")
    assert eventually(lambda: settled(kubectl), 120)


def ready(kubectl) -> list[str]:
    """Names of the replicas that answer."""
    return [
        pod["metadata"]["name"]
        for pod in pods(kubectl)
        if "deletionTimestamp" not in pod["metadata"]
        and any(
            one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ())
        )
    ]


def settled(kubectl, replicas: int = 2) -> bool:
    """That many answer, and none is going."""
    return len(ready(kubectl)) == len(pods(kubectl)) == replicas


def test_a_drain_loses_no_stream(kubectl, load, runbook):
    book = runbook("drain-a-node")
    book.rename({"x1000c0s0b0n0": pods(kubectl)[0]["spec"]["nodeName"]})
    with both(load) as loads:
        book.follow(1, 2)
        for one in loads:
            one.wait_for(ENOUGH)
        # A node of the lab has no room for a second replica: it waits until its own node is back.
        book.follow(3)
        assert eventually(lambda: settled(kubectl), 300), "the replica did not come back"
        book.worked()
        book.follow(4)
        spread(kubectl)
    all_whole(loads, "drain")


def test_an_update_loses_no_stream(kubectl, load):
    before = set(ready(kubectl))
    with both(load) as loads:
        kubectl("rollout", "restart", "deployment/tiny")
        kubectl("rollout", "status", "deployment/tiny", "--timeout=15m")
        assert eventually(lambda: settled(kubectl), 120)
    assert not before & set(ready(kubectl))
    assert len({pod["spec"]["nodeName"] for pod in pods(kubectl)}) == 2
    all_whole(loads, "update")


def test_fewer_and_more_replicas_lose_no_stream(kubectl, load):
    with both(load) as loads:
        for replicas in (1, 2):
            kubectl("scale", "deployment/tiny", f"--replicas={replicas}")
            assert eventually(lambda wanted=replicas: settled(kubectl, wanted), 300)
        for one in loads:
            one.wait_for(ENOUGH)
    all_whole(loads, "scale")


def test_after_a_power_cut_errors_stop_and_capacity_comes_back(site, kubectl, load, runbook):
    lost = site.nodes[1].xname
    spread(kubectl)
    with load() as streams:
        time.sleep(5)
        cut = time.monotonic()
        run(SITEWRIGHT, "nodes", "power", "lab", lost, "off", "--yes")
        time.sleep(60)
    errors = streams.seconds_of_errors(cut)
    details = {"seen": streams.said()}
    keep(Figure("power_cut.last_failed_stream_began", errors, "s", STOP_SECONDS, details=details))
    repaired = time.monotonic()
    runbook("node-lost-power").follow(2)
    assert eventually(lambda: settled(kubectl), 300)
    keep(Figure("power_cut.repair_to_full_capacity", time.monotonic() - repaired, "s"))
    assert errors < STOP_SECONDS
    assert answered_since(streams, cut + STOP_SECONDS) > 5


@pytest.mark.parametrize("hangs", ["server", "engine"])
def test_a_replica_that_hangs_is_replaced(kubectl, load, host, hangs: str):
    """The server, which then answers no probe; or the engine behind it, which vLLM's own /health does not notice."""
    spread(kubectl)
    pod = next(one for one in pods(kubectl) if one["metadata"]["name"] == ready(kubectl)[0])
    name = pod["metadata"]["name"]
    with load() as streams:
        time.sleep(5)
        hung = time.monotonic()
        before = container_of(kubectl, name)
        stopped = process_of(host(pod["spec"]["nodeName"]), before.removeprefix("containerd://"), hangs)
        host(pod["spec"]["nodeName"]).run_test(f"kill -STOP {stopped}")
        assert eventually(lambda: name not in ready(kubectl), HANG_SECONDS), "it is still asked"
        unready = time.monotonic() - hung
        assert eventually(lambda: container_of(kubectl, name) not in ("", before), HANG_SECONDS), (
            "nothing ended it"
        )
        ended = time.monotonic() - hung
        assert eventually(lambda: settled(kubectl), 120)
        back = time.monotonic() - hung
        time.sleep(5)
    last = streams.seconds_of_errors(hung)
    details = {"unready": unready, "ended": ended, "last_failed_stream_began": last, "seen": streams.said()}
    keep(Figure(f"hang_of_the_{hangs}.replaced", ended, "s", HANG_SECONDS, details=details | {"back": back}))
    assert ended < HANG_SECONDS
    # Until the probe failed often enough the Service still gave it requests.
    assert last < unready + 15


def test_a_replica_that_is_told_to_end_while_it_starts_ends(kubectl):
    """Process 1 of a pod would ignore it, and use its ten minutes."""
    spread(kubectl)
    kubectl("rollout", "restart", "deployment/tiny")
    before = {pod["metadata"]["name"] for pod in pods(kubectl)}
    assert eventually(lambda: starting(kubectl, before), 300), "no new replica starts"
    [name] = starting(kubectl, before)
    kubectl("delete", "pod", name, "--wait=false")
    assert eventually(lambda: name not in {pod["metadata"]["name"] for pod in pods(kubectl)}, 90), (
        "it goes on"
    )
    spread(kubectl)


def starting(kubectl, before: set[str]) -> list[str]:
    """New replicas whose program runs and does not answer yet."""
    return [
        pod["metadata"]["name"]
        for pod in pods(kubectl)
        if pod["metadata"]["name"] not in before
        and any(
            one["state"].get("running") and not one["ready"]
            for one in pod["status"].get("containerStatuses", ())
        )
    ]


def process_of(node, container: str, which: str) -> str:
    """A process of the container as its node numbers it: the server started the engine."""
    found = node.run(f"grep -ls {container} /proc/[0-9]*/cgroup").stdout.split()
    names = {line.split("/")[2]: node.file(f"{Path(line).parent}/comm").content_string for line in found}
    engines = [number for number, name in names.items() if name.startswith("VLLM::Engine")]
    return min(engines if which == "engine" else names, key=int)


def container_of(kubectl, name: str) -> str:
    """Its id; "" between two. The count of restarts begins anew on a node that restarted: its disk is memory."""
    [found] = [pod for pod in pods(kubectl) if pod["metadata"]["name"] == name]
    return str(found["status"]["containerStatuses"][0].get("containerID", ""))


def answered_since(load: OpenLoop, moment: float) -> int:
    return sum(1 for stream in load.streams if stream.started > moment and not stream.fault)
