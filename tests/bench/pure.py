"""Figures that need no lab."""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from ClusterShell.NodeSet import NodeSet

from sitewright.site.hostlist import expand, fold

NODES = "x[1000-1023]c[0-7]s[0-7]b[0-1]n0"  # 3072
REPEATS = 7


def hostlist() -> Iterator[dict[str, Any]]:
    ours = seconds(lambda: fold(expand(NODES)))
    peer = seconds(lambda: str(NodeSet.fromlist(list(NodeSet(NODES)))))
    yield {
        "name": "hostlist expand and fold, 3072 nodes",
        "value": round(ours, 4),
        "unit": "s",
        "target": 0.1,
        "peer": {"ClusterShell": round(peer, 4)},
        "ratio": round(ours / peer, 3),
    }


def preview() -> Iterator[dict[str, Any]]:
    """The program of example-alps under mocks, in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/stacks/test_program.py"]
    begun = time.monotonic()
    subprocess.run([*command, "-k", "preview and alps"], check=True, stdout=subprocess.DEVNULL)
    took = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    yield {"name": "preview of example-alps, 2728 nodes, no cluster", "value": round(took, 2), "unit": "s"}
    yield {"name": "preview of example-alps, peak memory", "value": round(peak), "unit": "MiB"}


def seconds(work: Callable[[], object]) -> float:
    """Median over a few runs, after one that does not count."""
    work()
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return median(taken)
