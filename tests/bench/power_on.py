"""From power-on to Ready, per node, from what the provider recorded of the last deployment that did both."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sitewright.errors import SitewrightError
from sitewright.provider.artifacts import RunRecord, read_runs, runs_directory
from tests.bench.figure import Figure, progress
from tests.bench.preview import REPOSITORY

TARGET_S = 12.0
READY_TASK = "Wait until the node is Ready"


@dataclass(frozen=True)
class Boot:
    """The boot of a pool. ready: seconds from the first request to a BMC until the node was seen Ready,
    with labels and taints, by xname."""

    pool: str
    power_run: str
    join_run: str
    ready: dict[str, float]


def nodes() -> Iterator[Figure]:
    directory = runs_directory(REPOSITORY)
    progress(f"nodes: newest power-on and join in {directory}")
    if not (found := newest_boots(directory)):
        raise SitewrightError(
            f"{directory} has no power-on of nodes followed by their join",
            "`make lab` makes one; `python -m tests.bench --only warm,nodes` does it and measures.",
        )
    for boot in found:
        runs = {"runs": [boot.power_run, boot.join_run]}
        yield Figure(f"power_on_to_ready.{boot.pool}", max(boot.ready.values()), "s", TARGET_S, details=runs)
        for xname, seconds in sorted(boot.ready.items()):
            yield Figure(f"power_on_to_ready.{xname}", seconds, "s", details=runs)


def newest_boots(directory: Path) -> list[Boot]:
    """One for each pool that has any. Only runs that follow each other count: a join that was repeated later
    says nothing about the time a boot takes."""
    boots: dict[str, Boot] = {}
    pending: dict[str, RunRecord] = {}
    for record in sorted(read_runs(directory), key=lambda record: record.started):
        verb, _, pool = record.name.partition("-")
        if verb not in ("power", "join") or record.action != "run":
            continue
        power = pending.pop(pool, None)
        if record.status != "ok":
            continue
        if verb == "power":
            pending[pool] = record
        elif power and (boot := _boot(directory, pool, power, record)):
            boots[pool] = boot
    return list(boots.values())


def _boot(directory: Path, pool: str, power: RunRecord, join: RunRecord) -> Boot | None:
    """None where no node was switched on, or none joined anew: one that was up all the time changes nothing
    in either run."""
    asked = [event["time"] - event["seconds"] for event in _events(directory / power.run)]
    joined = {host for host, results in join.hosts.items() if results["changed"]}
    ready = {
        event["host"]: event["time"]
        for event in _events(directory / join.run)
        if READY_TASK in event["task"] and event["host"] in joined
    }
    if not asked or not ready or not power.changed:
        return None
    return Boot(pool, power.run, join.run, {xname: at - min(asked) for xname, at in ready.items()})


def _events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
