"""Figures of the lab. All need root; `warm` brings the lab up, the others look at one that is up."""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from lab import paths

REPOSITORY = Path(__file__).parents[2]
SITEWRIGHT = str(REPOSITORY / ".venv/bin/sitewright")
IDLE_SECONDS = 60


def warm() -> Iterator[dict[str, Any]]:
    """From nothing but caches to the model's answer."""
    _run(SITEWRIGHT, "lab", "down")
    with tempfile.NamedTemporaryFile(suffix=".json") as timings:
        begun = time.monotonic()
        _run(SITEWRIGHT, "lab", "up", "--deploy", "--timings", timings.name)
        took = time.monotonic() - begun
        stages = json.loads(Path(timings.name).read_text())
    yield {"name": "make lab, warm", "value": round(took, 1), "unit": "s", "target": 240}
    for stage, value in stages.items():
        yield {"name": f"make lab, warm: {stage}", "value": value, "unit": "s"}
    peak = sum(_number(tree / "memory.max_usage_in_bytes") for tree in _groups("memory"))
    yield {"name": "lab, peak memory with page cache", "value": round(peak / 2**30, 2), "unit": "GiB"}


def noop() -> Iterator[dict[str, Any]]:
    """`pulumi up` when there is nothing to do."""
    command = "pulumi up --yes --skip-preview --non-interactive --stack lab"
    begun = time.monotonic()
    _run("bash", "-c", f'eval "$({SITEWRIGHT} lab env)" && {command}')
    took = time.monotonic() - begun
    yield {"name": "pulumi up, nothing to do", "value": round(took, 1), "unit": "s", "target": 12}


def nodes() -> Iterator[dict[str, Any]]:
    """From the start of the run that powers the pool on to the end of the one that finds its nodes Ready."""
    runs = [
        json.loads(file.read_text()) for file in sorted((REPOSITORY / ".sitewright/runs").glob("*/run.json"))
    ]
    done = [run for run in runs if run["status"] == "ok" and run["action"] == "run"]
    powered = next(run for run in reversed(done) if run["name"].startswith("power-"))
    joined = next(run for run in reversed(done) if run["name"].startswith("join-"))
    end = datetime.fromisoformat(joined["started"]).timestamp() + joined["seconds"]
    took = end - datetime.fromisoformat(powered["started"]).timestamp()
    nodes_ = len([host for host in joined["hosts"] if host != "localhost"])
    yield {"name": f"power-on to Ready, {nodes_} nodes", "value": round(took, 1), "unit": "s", "target": 12}


def idle() -> Iterator[dict[str, Any]]:
    """What the lab costs while nobody asks the model anything."""
    before = _cpu_seconds()
    time.sleep(IDLE_SECONDS)
    cores = (_cpu_seconds() - before) / IDLE_SECONDS
    used = sum(_memory(tree) for tree in _groups("memory"))
    yield {"name": "lab, idle", "value": round(cores, 3), "unit": "cores", "target": 0.6}
    yield {
        "name": "lab, memory without page cache",
        "value": round(used / 2**30, 2),
        "unit": "GiB",
        "target": 5,
    }


def _groups(controller: str) -> list[Path]:
    return [tree for tree in [Path("/sys/fs/cgroup") / controller / paths.lab_name()] if tree.is_dir()]


def _memory(tree: Path) -> int:
    stat = dict(line.split() for line in (tree / "memory.stat").read_text().splitlines())
    # tmpfs counts as shmem: the roots of the diskless nodes are memory that is really used.
    return int(stat["total_rss"]) + int(stat.get("total_shmem", 0))


def _cpu_seconds() -> float:
    return sum(_number(tree / "cpuacct.usage") for tree in _groups("cpuacct")) / 1e9


def _number(file: Path) -> int:
    return int(file.read_text())


def _run(*command: str) -> None:
    subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
