"""Expansion and folding of 3,000 nodes, beside ClusterShell in the same process."""

import importlib.metadata
import random
import time
from collections.abc import Callable, Iterator

from ClusterShell.NodeSet import NodeSet

from sitewright.site.hostlist import expand, fold
from tests.bench.figure import Figure, progress

NODES = 3000
TARGET_S = 0.1
MACHINE = "x[1000-1023]c[0-7]s[0-7]b[0-1]n0"  # 3,072 nodes of an EX machine
LARGE = "x[1000-1046]c[0-7]s[0-7]b[0-1]n0"  # 6,016, of which every second one is missing somewhere


def hostlist() -> Iterator[Figure]:
    """Whole cabinets, as a site file writes them, and nodes scattered at random, as a list of failures is."""
    cabinets = expand(MACHINE)[:NODES]
    scattered = sorted(random.Random(3).sample(expand(LARGE), NODES))
    yield _figure("cabinets", cabinets, rounds=5)
    yield _figure("scattered", scattered, rounds=1)  # the peer takes seconds for one round


def _figure(case: str, names: list[str], rounds: int) -> Figure:
    text = fold(names)
    progress(f"hostlist: {NODES} nodes, {case}")
    ours = best(lambda: ours_round_trip(text), 5)
    peer = best(lambda: peer_round_trip(text), rounds)
    version = importlib.metadata.version("ClusterShell")
    return Figure(
        f"hostlist.{case}",
        ours,
        "s",
        TARGET_S,
        peer={"name": f"ClusterShell {version}", "value": round(peer, 4), "ratio": round(peer / ours, 1)},
        details={"nodes": NODES, "work": "expand and fold"},
    )


def ours_round_trip(text: str) -> str:
    return fold(expand(text))


def peer_round_trip(text: str) -> str:
    return str(NodeSet.fromlist(list(NodeSet(text))))


def best(work: Callable[[], object], rounds: int) -> float:
    """Seconds of the quickest round: what the work takes when nothing else gets in its way."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
