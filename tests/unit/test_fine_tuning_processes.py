"""Processes of one run: how many there are, and what their ends mean together."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modules.tuning.fine_tuning_processes import status

REPOSITORY = Path(__file__).parents[2]
WORKER = """
import json, os, pathlib, signal, sys, time
rank, place = int(os.environ["RANK"]), pathlib.Path(sys.argv[1])
ends = json.loads((place / "ends.json").read_text())
signal.signal(signal.SIGTERM, lambda *_: sys.exit(ends.get("told", 75)))
(place / f"{rank}-of-{os.environ['WORLD_SIZE']}").write_text(os.environ["MASTER_PORT"])
print(f"{rank} speaks", flush=True)
if str(rank) in ends:
    sys.exit(ends[str(rank)])
time.sleep(60)
"""


def start(place: Path, wait: float = 0.5, **ends: int) -> subprocess.Popen[str]:
    """The launcher with two workers, each of which ends as told; who is not told sleeps."""
    (place / "worker.py").write_text(WORKER)
    (place / "ends.json").write_text(
        json.dumps({name.removeprefix("of_"): end for name, end in ends.items()})
    )
    program = (
        "import pathlib, sys; from modules.tuning import fine_tuning_processes as p; "
        f"p.LEAVE_SECONDS = {wait}; sys.exit(p.launch('worker', pathlib.Path({str(place)!r})))"
    )
    variables = {"PYTHONPATH": f"{REPOSITORY}:{place}", "TRAIN_PROCESSES": "2"}
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_each_knows_its_place_and_only_the_first_speaks(tmp_path):
    process = start(tmp_path, of_0=0, of_1=0)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0, printed
    assert printed == "0 speaks\n"
    ports = {(tmp_path / f"{place}-of-2").read_text() for place in range(2)}
    assert len(ports) == 1


def test_a_sigterm_reaches_all_of_them(tmp_path):
    process = start(tmp_path)
    while not all((tmp_path / f"{place}-of-2").exists() for place in range(2)):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 75


@pytest.mark.parametrize(("end", "whole"), [(1, 1), (70, 70), (3, 70)])
def test_what_waits_for_one_that_failed_is_ended(tmp_path, end, whole):
    process = start(tmp_path, of_1=end)
    process.communicate(timeout=30)
    assert process.returncode == whole


@pytest.mark.parametrize(
    ("statuses", "told", "whole"),
    [
        ([0, 0], False, 0),
        ([0, 0], True, 0),
        ([75, 75], True, 75),
        ([75, 75], False, 75),
        ([-15, -15], True, 75),
        ([75, -9], True, 75),
        ([-9, 0], False, 70),
        ([70, 1], False, 1),
        ([1, 1], True, 1),
        ([], True, 75),
    ],
)
def test_one_status_stands_for_all(statuses, told, whole):
    assert status(statuses, told) == whole
