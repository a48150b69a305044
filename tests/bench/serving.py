"""What stands between a client and a model adds to an answer: open-loop streams with each of them and with none."""

import contextlib
import json
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lab import deploy, paths
from lab.plan import LabPlan
from sitewright.errors import SitewrightError
from tests.bench import front
from tests.bench.figure import Figure, progress
from tests.load import OpenLoop, Stream, quantile

GATEWAY, REPLICAS, MODEL = "http://127.0.0.1:18400/v1", "http://127.0.0.1:18000/v1", "tiny"
WARM_UP, RESAMPLES = 10, 1000
FOR_P99 = 459  # fewer streams do not tell it (MLPerf LoadGen: so many without one beyond it)
DIRECT = "the model's Service"
ADDED_S = {
    "gateway": 0.020,
    "gateway_process": 0.020,
    "vllm_router": 0.005,
}  # p50, the targets of docs/figures.md
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
Measured = Callable[[Stream], float]


class Load(NamedTuple):
    """streams: of a round, at each place; rate: of them per second."""

    rate: float
    rounds: int
    streams: int


# One stream at a time, mostly; and what keeps two cores busy that also run the model, the cluster and the clients.
LOADS = {"light": Load(0.5, 5, 12), "full": Load(2.0, 10, 46)}


class Place(NamedTuple):
    """Where streams are asked for."""

    url: str
    key: str | None = None


def gateway() -> Iterator[Figure]:
    """Seconds to the first word and to the last that each adds at the median, with the other quantiles, and the words
    per second of a stream; once with little load and once with much."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        places = {
            DIRECT: Place(REPLICAS),
            "gateway": Place(GATEWAY, _key()),
            "gateway_process": Place(*stack.enter_context(front.gateway(scratch, MODEL, REPLICAS))),
            "litellm": Place(*stack.enter_context(front.litellm(scratch, MODEL, REPLICAS))),
            "vllm_router": Place(stack.enter_context(front.router(scratch, REPLICAS))),
        }
        for name, place in places.items():
            progress(f"gateway: {name} warms up")
            streams(place, 1.0, WARM_UP, seed=0)
        for name, load in LOADS.items():
            progress(f"gateway: {name} load, {load.rate:g} streams per second")
            yield from compared(f"gateway.{name}", rounds(places, load))


def compared(title: str, found: dict[str, list[Stream]]) -> Iterator[Figure]:
    """Each place beside the model's own Service."""
    direct = found.pop(DIRECT)
    for name, ours in found.items():
        for what, of in (("first_word", first_word), ("last_word", last_word)):
            target = ADDED_S.get(name) if title.endswith("light") else None
            yield added(f"{title}.{name}.{what}", list(map(of, ours)), list(map(of, direct)), target)
        peer = {"name": DIRECT, **quantiles(sorted(map(pace, direct)))}
        mine = sorted(map(pace, ours))
        yield Figure(
            f"{title}.{name}.words_per_second", quantile(mine, 0.5), "1/s", None, peer, quantiles(mine)
        )


def rounds(places: dict[str, Place], load: Load, seed: int = 1) -> dict[str, list[Stream]]:
    """The streams of each place. All are asked in each round, in an order of chance."""
    order = random.Random(seed)
    found: dict[str, list[Stream]] = {name: [] for name in places}
    for turn in range(load.rounds):
        progress(f"gateway: round {turn + 1} of {load.rounds}")
        for name in order.sample(list(places), len(places)):
            found[name] += streams(places[name], load.rate, load.streams, seed=turn)
    return found


def added(name: str, ours: Sequence[float], theirs: Sequence[float], target: float | None) -> Figure:
    """The difference of the medians; in its details those of all quantiles, each with an interval of 95 %."""
    mine, other = sorted(ours), sorted(theirs)
    between = intervals(mine, other)
    details = {
        "confidence_95": between["p50"],
        "added": {
            which: {
                "s": round(quantile(mine, share) - quantile(other, share), 4),
                "confidence_95": between[which],
            }
            for which, share in told(mine).items()
        },
        "streams": len(mine),
        **quantiles(mine),
    }
    value = quantile(mine, 0.5) - quantile(other, 0.5)
    return Figure(f"{name}.added_p50", value, "s", target, {"name": DIRECT, **quantiles(other)}, details)


def intervals(ours: Sequence[float], theirs: Sequence[float], seed: int = 1) -> dict[str, list[float]]:
    """95 % confidence intervals of the differences of the quantiles, by resampling both."""
    draw = random.Random(seed)
    differences: dict[str, list[float]] = {which: [] for which in QUANTILES}
    for _ in range(RESAMPLES):
        mine, other = sorted(draw.choices(ours, k=len(ours))), sorted(draw.choices(theirs, k=len(theirs)))
        for which, share in QUANTILES.items():
            differences[which].append(quantile(mine, share) - quantile(other, share))
    return {
        which: [round(quantile(sorted(values), share), 4) for share in (0.025, 0.975)]
        for which, values in differences.items()
    }


def streams(place: Place, rate: float, count: int, seed: int) -> list[Stream]:
    """Raises: SitewrightError where one is not whole: a figure of those that are would say nothing."""
    with OpenLoop(place.url, MODEL, rate, place.key, seed) as load:
        load.wait_for(count)
    if load.failed:
        raise SitewrightError(f"{place.url}: {load.said()}")
    return load.streams[:count]


def first_word(stream: Stream) -> float:
    return stream.first - stream.started


def last_word(stream: Stream) -> float:
    return stream.ended - stream.started


def pace(stream: Stream) -> float:
    return (stream.words - 1) / max(stream.ended - stream.first, 1e-6)


def told(values: Sequence[float]) -> dict[str, float]:
    """The quantiles that so many values tell."""
    return {which: share for which, share in QUANTILES.items() if which != "p99" or len(values) >= FOR_P99}


def quantiles(ordered: Sequence[float]) -> dict[str, float]:
    return {which: round(quantile(ordered, share), 4) for which, share in told(ordered).items()}


def _key() -> str:
    plan = LabPlan.of("lab")
    command = ["pulumi", "stack", "output", "gateway_keys", "--show-secrets", "--json", "-s", plan.site.name]
    done = subprocess.run(
        command, cwd=paths.REPOSITORY, env=deploy.variables(plan), text=True, capture_output=True
    )
    if done.returncode:
        raise SitewrightError(f"no gateway in the lab: {done.stderr.strip()[-500:]}", "`make lab` makes one.")
    return str(json.loads(done.stdout)["demo"])
