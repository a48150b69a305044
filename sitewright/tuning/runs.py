"""The runs on the shared file system: one directory each, which is there as a whole or not at all."""

import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sitewright.errors import SitewrightError
from sitewright.tuning.template import RUNS, TrainingTemplate

# With the time behind it, the name of a Job; the pods of a Job add another six characters (RFC 1123: 63).
NAME = r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$"
REQUEST, RECORD, PROGRESS, ADAPTER = "request.json", "run.json", "progress.jsonl", "adapter"
TRAIN, EVALUATION = "train.jsonl", "evaluation.jsonl"


@dataclass(frozen=True)
class Run:
    """directory: as this machine sees it."""

    id: str
    directory: Path

    @property
    def request(self) -> dict[str, Any]:
        """What was asked for. Raises: SitewrightError when the run has none that can be read."""
        return _json(self.directory / REQUEST)

    @property
    def record(self) -> dict[str, Any] | None:
        """What came of it, with all that reproduces it; None while the run is not finished."""
        path = self.directory / RECORD
        return _json(path) if path.exists() else None

    @property
    def progress(self) -> Path:
        return self.directory / PROGRESS


def run_id(name: str, now: datetime | None = None) -> str:
    """`name` with the time, UTC. Raises: SitewrightError when it cannot be the name of a Job."""
    if not re.fullmatch(NAME, name):
        raise SitewrightError(
            f"name {name!r}: at most 40 lower-case letters, digits and '-', a letter or digit at both ends",
            "Give the run another --name.",
        )
    return f"{name}-{now or datetime.now(UTC):%Y%m%d-%H%M%S}"


def create(
    template: TrainingTemplate, run: str, request: dict[str, Any], train: Path, evaluation: Path | None
) -> Run:
    """The directory of a new run, with its request and its data.

    Raises: SitewrightError when it is there already, or the shared file system cannot be written from here.
    """
    runs = Path(template.publish_dir) / RUNS
    directory = runs / run
    if directory.exists():
        raise SitewrightError(f"{directory}: there is a run of this name", "Submit it again in a second.")
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{run}-", dir=runs))
    except OSError as error:
        raise _not_writable(runs, error) from error
    try:
        made.chmod(0o755)
        shutil.copyfile(train, made / TRAIN)
        if evaluation is not None:
            shutil.copyfile(evaluation, made / EVALUATION)
        (made / REQUEST).write_text(json.dumps(request, indent=2) + "\n", encoding="utf-8")
        made.rename(directory)
    except OSError as error:
        raise _not_writable(runs, error) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return Run(run, directory)


def remove(run: Run) -> None:
    """Takes a run away that never became a Job."""
    shutil.rmtree(run.directory, ignore_errors=True)


def find(template: TrainingTemplate, run: str) -> Run:
    """Raises: SitewrightError with what is there when there is no run of that name."""
    known = {found.id: found for found in every(template)}
    if run not in known:
        latest = ", ".join(list(known)[-5:]) or "none"
        raise SitewrightError(
            f"no run {run!r} below {Path(template.publish_dir) / RUNS}; the latest: {latest}",
            "`sitewright tune list` shows all.",
        )
    return known[run]


def every(template: TrainingTemplate) -> list[Run]:
    """All runs, the oldest first."""
    runs = Path(template.publish_dir) / RUNS
    found = [path for path in runs.glob("*") if (path / REQUEST).is_file() and not path.name.startswith(".")]
    return [Run(path.name, path) for path in sorted(found, key=lambda path: path.name[-15:])]


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise SitewrightError(f"{path}: cannot be read as JSON: {error}") from error


def _not_writable(runs: Path, error: OSError) -> SitewrightError:
    return SitewrightError(
        f"{runs}: {error.strerror or error}",
        "Submit from a machine that has the shared file system mounted writable; nothing was submitted.",
    )
