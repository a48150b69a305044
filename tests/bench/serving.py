"""What the gateway adds to an answer of a real model: open-loop streams with it and without it, in turns."""

import json
import random
import subprocess
from collections.abc import Iterator, Sequence

from lab import deploy, paths
from lab.plan import LabPlan
from sitewright.errors import SitewrightError
from tests.bench.figure import Figure, progress
from tests.load import OpenLoop, Stream, quantile

GATEWAY, REPLICAS, MODEL = "http://127.0.0.1:18400/v1", "http://127.0.0.1:18000/v1", "tiny"
RATE = 1.0  # streams per second: a tenth of what two replicas on two cores can do
ROUNDS, STREAMS, WARM_UP = 5, 20, 10
RESAMPLES = 2000
ADDED_S = 0.020  # p50, the pass line of docs/figures.md
QUANTILES = (0.5, 0.95, 0.99)


def gateway() -> Iterator[Figure]:
    """Seconds to the first word and to the last, words per second; the peer is the model without the gateway."""
    key = _key()
    direct, through = [], []
    streams(REPLICAS, WARM_UP, None, seed=0)
    streams(GATEWAY, WARM_UP, key, seed=0)
    for place in range(ROUNDS):
        progress(f"gateway: round {place + 1} of {ROUNDS}")
        direct += streams(REPLICAS, STREAMS, None, seed=place)
        through += streams(GATEWAY, STREAMS, key, seed=place)
    for name, of in (("first_word", first_word), ("last_word", last_word), ("words_per_second", pace)):
        ours, theirs = sorted(map(of, through)), sorted(map(of, direct))
        unit = "1/s" if name == "words_per_second" else "s"
        peer = {"name": "the model's Service", **quantiles(theirs)}
        yield Figure(f"gateway.{name}", quantile(ours, 0.5), unit, peer=peer, details=quantiles(ours))
        if unit == "s":
            details = {"confidence_95": interval(ours, theirs), "streams": len(ours)}
            added = quantile(ours, 0.5) - quantile(theirs, 0.5)
            yield Figure(f"gateway.{name}.added_p50", added, "s", ADDED_S, details=details)


def interval(ours: Sequence[float], theirs: Sequence[float], seed: int = 1) -> list[float]:
    """95 % confidence interval of the difference of the medians, by resampling both."""
    draw = random.Random(seed)
    differences = sorted(
        quantile(sorted(draw.choices(ours, k=len(ours))), 0.5)
        - quantile(sorted(draw.choices(theirs, k=len(theirs))), 0.5)
        for _ in range(RESAMPLES)
    )
    return [round(quantile(differences, share), 4) for share in (0.025, 0.975)]


def streams(url: str, count: int, key: str | None, seed: int) -> list[Stream]:
    """Raises: SitewrightError where one is not whole: a figure of those that are would say nothing."""
    with OpenLoop(url, MODEL, RATE, key, seed) as load:
        load.wait_for(count)
    if load.failed:
        raise SitewrightError(f"{url}: {load.said()}")
    return load.streams[:count]


def first_word(stream: Stream) -> float:
    return stream.first - stream.started


def last_word(stream: Stream) -> float:
    return stream.ended - stream.started


def pace(stream: Stream) -> float:
    return (stream.words - 1) / max(stream.ended - stream.first, 1e-6)


def quantiles(ordered: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in seconds."""
    return {f"p{share * 100:.0f}": round(quantile(ordered, share), 4) for share in QUANTILES}


def _key() -> str:
    plan = LabPlan.of("lab")
    command = ["pulumi", "stack", "output", "gateway_keys", "--show-secrets", "--json", "-s", plan.site.name]
    done = subprocess.run(
        command, cwd=paths.REPOSITORY, env=deploy.variables(plan), text=True, capture_output=True
    )
    if done.returncode:
        raise SitewrightError(f"no gateway in the lab: {done.stderr.strip()[-500:]}", "`make lab` makes one.")
    return str(json.loads(done.stdout)["demo"])
