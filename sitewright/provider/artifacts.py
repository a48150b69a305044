"""What stays of a run: `.sitewright/runs/<UTC time>-<name>/` with `run.json`, `log.txt` and `events.jsonl`.

Written by the provider, read by `sitewright runs`. Everything passes the redactor before it is written.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sitewright.provider.processes import started_at
from sitewright.provider.redact import Redactor

KEEP = 50
"""Finished runs that are kept; `SITEWRIGHT_KEEP_RUNS` overrides."""


@dataclass
class RunRecord:
    """Content of `run.json`. status: running, ok, failed, timed out, cancelled; `interrupted` is only ever
    read."""

    run: str
    name: str
    action: str
    playbook: str
    environment: str | None
    digest: str
    started: str
    limit: str | None = None
    status: str = "running"
    seconds: float = 0.0
    changed: bool = False
    hosts: dict[str, dict[str, int]] = field(default_factory=dict)
    failure: str = ""
    owner: str = ""


class Artifacts:
    """The directory of one run while it is written."""

    def __init__(self, repository: Path, record: RunRecord, redact: Redactor, hold_log: bool = False) -> None:
        """hold_log: keep the log in memory until the end, for a run whose results are secrets nobody knows
        before."""
        self.record = record
        self._redact = redact
        self._held: list[str] | None = [] if hold_log else None
        self._repository = repository
        self.path = _new_directory(runs_directory(repository), record)
        self._log = _open(self.path / "log.txt")
        self._events = _open(self.path / "events.jsonl")
        self._save()
        prune(runs_directory(repository), int(os.environ.get("SITEWRIGHT_KEEP_RUNS", KEEP)))

    @property
    def relative(self) -> str:
        """Path below the repository: the same on every machine, so it can go into the state."""
        return str(self.path.relative_to(self._repository))

    def log(self, text: str) -> None:
        if self._held is None:
            self._log.write(self._redact(text) + "\n")
        else:
            self._held.append(text)

    def event(self, **data: Any) -> None:
        self._events.write(json.dumps(self._redact.data(data)) + "\n")

    def finish(self, status: str, seconds: float, failure: str = "") -> None:
        """Close the files; after this the run counts as finished."""
        self.record.status = status
        self.record.seconds = round(seconds, 3)
        self.record.failure = failure
        held, self._held = self._held or [], None
        for text in held:
            self.log(text)
        self._log.close()
        self._events.close()
        self._save()

    def _save(self) -> None:
        text = json.dumps(self._redact.data(asdict(self.record)), indent=2)
        temporary = self.path / ".run.json"
        with _open(temporary) as file:
            file.write(text + "\n")
        temporary.rename(self.path / "run.json")


def runs_directory(repository: Path) -> Path:
    return repository / ".sitewright" / "runs"


def read_runs(directory: Path) -> list[RunRecord]:
    """All readable runs, oldest first. A run whose process is gone without a word is `interrupted`."""
    runs = []
    for path in sorted(directory.glob("*/run.json")):
        try:
            record = RunRecord(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue
        if record.status == "running" and not _owner_lives(record.owner):
            record.status = "interrupted"
        runs.append(record)
    return runs


def prune(directory: Path, keep: int) -> None:
    """Remove the oldest finished runs, so that `keep` stay; a run in progress always stays."""
    finished = [record.run for record in read_runs(directory) if record.status != "running"]
    for run in finished[: max(0, len(finished) - keep)]:
        shutil.rmtree(directory / run, ignore_errors=True)


def new_record(
    name: str, action: str, playbook: str, environment: str | None, limit: str | None, digest: str
) -> RunRecord:
    """A record of a run that starts now, in this process."""
    now = datetime.now(UTC)
    tail = "" if action == "run" else f"-{action}"
    return RunRecord(
        run=f"{now:%Y%m%dT%H%M%S}Z-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}{tail}",
        name=name,
        action=action,
        playbook=playbook,
        environment=environment,
        limit=limit,
        digest=digest,
        started=now.isoformat(timespec="seconds"),
        owner=f"{os.getpid()} {started_at(os.getpid())}",
    )


def _new_directory(parent: Path, record: RunRecord) -> Path:
    """Make the run's directory; two runs of one name in one second get different ones."""
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted, attempt = record.run, 1
    while True:
        try:
            (parent / record.run).mkdir(mode=0o700)
            return parent / record.run
        except FileExistsError:
            attempt += 1
            record.run = f"{wanted}-{attempt}"


def _owner_lives(owner: str) -> bool:
    pid, _, started = owner.partition(" ")
    return pid.isdigit() and started_at(int(pid)) == started


def _open(path: Path) -> Any:
    """A text file for the owner only, written line by line so that it can be followed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    return os.fdopen(descriptor, "w", buffering=1, encoding="utf-8", errors="replace")
