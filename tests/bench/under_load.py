"""What tests of the lab measure while they prove it: one measurement, one way of doing it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lab import paths
from sitewright.errors import SitewrightError
from tests.bench.figure import Figure, progress

FILE = "SITEWRIGHT_FIGURES"  # variable with the file tests add their figures to
AVAILABILITY = "tests/lab/test_availability.py"
HAND_OVER = "tests/lab/test_hand_over.py"
TUNING = "tests/lab/test_5_tuning.py"
TRAINING = "tests/lab/test_training_on_nodes.py"
QUEUES = "tests/lab/test_7_queues.py"


def availability() -> Iterator[Figure]:
    """Failed requests while the site changes, and seconds until it is whole again."""
    yield from recorded_by(AVAILABILITY)


def hand_over() -> Iterator[Figure]:
    """From the end of training to the answers of all replicas, and failed requests on the way to users and back."""
    yield from recorded_by(TUNING, HAND_OVER)


def training() -> Iterator[Figure]:
    """Steps that a power cut and a preemption cost, and the time of a step in a pod beside a plain process there."""
    yield from recorded_by(TRAINING, QUEUES)


def recorded_by(*tests: str) -> Iterator[Figure]:
    """Run the tests and give what they recorded. Raises: SitewrightError where one of them fails, after its figures."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "figures.jsonl"
        command = [sys.executable, "-m", "pytest", "-m", "lab", "-q", "-n0", *tests]
        progress(f"$ {' '.join(command[1:])}")
        done = subprocess.run(
            command,
            cwd=paths.REPOSITORY,
            env={**os.environ, FILE: str(file)},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
        )
        lines = file.read_text().splitlines() if file.exists() else []
    yield from map(_figure, lines)
    if done.returncode:
        raise SitewrightError(f"{', '.join(tests)}: exit {done.returncode}; what failed is above")


def keep(figure: Figure) -> None:
    """Add a figure to the file of the bench that runs the test; without one it is only printed."""
    print(figure.line())
    if file := os.environ.get(FILE):
        record = {"name": figure.name, "value": figure.value, "unit": figure.unit, "target": figure.target}
        with Path(file).open("a") as lines:
            lines.write(json.dumps(record | {"details": figure.details}) + "\n")


def _figure(line: str) -> Figure:
    record = json.loads(line)
    return Figure(
        record["name"], record["value"], record["unit"], record["target"], details=record["details"]
    )
