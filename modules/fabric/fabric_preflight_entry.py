"""How fast nodes sum up what all of them have. Mounted into the pods of the preflight, where torchrun starts it.

Prints one JSON line from rank 0: bytes, ranks, backend, seconds, and the bus bandwidth in GB/s as nccl-tests defines
it: 2 (ranks - 1) / ranks × bytes / seconds (NVIDIA/nccl-tests, doc/PERFORMANCE.md).
Exit status: 0 at least `share` of what is expected, 1 less, 2 wrong sums: the network changes what it carries.
"""

import argparse
import json
import os
import sys
import time
from typing import Any

WARM_UP = 5


def bus_bandwidth(size: int, ranks: int, seconds: float) -> float:
    """GB/s, with 10^9 bytes in one."""
    return 2 * (ranks - 1) / ranks * size / seconds / 1e9


def measured(size: int, rounds: int, backend: str) -> dict[str, Any]:
    """Of rank 0; the seconds are those of one sum. Every rank must call it."""
    import torch
    import torch.distributed as distributed

    distributed.init_process_group(backend)
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    device = f"cuda:{os.environ['LOCAL_RANK']}" if backend == "nccl" else "cpu"
    values = torch.ones(size // 4, device=device)
    for _ in range(WARM_UP):
        distributed.all_reduce(values)
        values.fill_(1.0)
    began = time.perf_counter()
    for _ in range(rounds):
        distributed.all_reduce(values)
        values.mul_(1.0 / ranks)
    right = bool((values == 1.0).all())
    if device != "cpu":
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - began) / rounds
    distributed.destroy_process_group()
    bandwidth = bus_bandwidth(size, ranks, seconds)
    found = {"bytes": size, "ranks": ranks, "backend": backend, "seconds": seconds, "bus_gb_s": bandwidth}
    return {**found, "rank": rank, "right": right}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=128 * 2**20)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--backend", default="nccl", choices=["nccl", "gloo"])
    parser.add_argument("--expected", type=float, required=True, help="GB/s")
    parser.add_argument("--share", type=float, default=0.95)
    given = parser.parse_args(arguments)
    found = measured(given.bytes, given.rounds, given.backend)
    if found.pop("rank") == 0:
        print(json.dumps(found), flush=True)
    if not found["right"]:
        return 2
    return 0 if found["bus_gb_s"] >= given.share * given.expected else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
