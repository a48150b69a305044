"""How far a node is: one JSON file for `sitewright lab status`, and lines in the node's console log."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from lab import paths

Stage = Literal["off", "power-on", "script", "image", "root", "start", "running", "retry", "shutdown"]
LOG_LIMIT = 8 << 20


@dataclass(frozen=True)
class Progress:
    """power: what the power button was last set to; stage: where the node is; error: why it is not further,
    "" if nothing failed; image: sha256 of its root file system; lab: which lab this was (its network
    namespace), so that one taken down and up again starts with its nodes off; since, updated: RFC 3339."""

    node: str
    power: Literal["On", "Off"] = "Off"
    stage: Stage = "off"
    detail: str = ""
    error: str = ""
    image: str = ""
    attempt: int = 0
    lab: int = 0
    since: str = ""
    updated: str = ""


def file_of(xname: str) -> Path:
    return paths.machine_dir(xname) / "boot.json"


def read(xname: str) -> Progress:
    """What was last reported of a node; a node that never reported is off."""
    try:
        return Progress(**json.loads(file_of(xname).read_text()))
    except (OSError, ValueError, TypeError):
        return Progress(node=xname)


class Report:
    """Writes the progress of one node."""

    def __init__(self, xname: str) -> None:
        self._xname = xname
        self.progress = read(xname)

    def stage(self, stage: Stage, detail: str = "", error: str = "", **changes: str | int) -> None:
        """Enter a stage, or stay in it with something new to say. changes: fields of Progress."""
        now = _now()
        since = now if stage != self.progress.stage else self.progress.since or now
        fields: dict[str, str | int] = {
            "stage": stage,
            "detail": detail,
            "error": error,
            "since": since,
            "updated": now,
        }
        fields |= {"lab": _this_lab()} | changes
        self.progress = replace(self.progress, **fields)  # type: ignore[arg-type]
        self._write()
        self.console(": ".join(filter(None, (stage, detail, error.replace("\n", " ")))))

    def was_booting(self) -> bool:
        """Whether the node was last heard of on its way up, in this very lab."""
        last = self.progress
        booting = last.power == "On" and last.stage not in ("running", "shutdown", "off")
        return booting and last.lab == _this_lab()

    def _write(self) -> None:
        file = file_of(self._xname)
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.write_text(json.dumps(asdict(self.progress), indent=2) + "\n")
        new.replace(file)

    def console(self, line: str) -> None:
        """One line, as firmware would print it, before the machine's own output."""
        log = paths.machine_dir(self._xname) / "console.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        # Only now, between two lives of the node: while it runs, the machine itself writes to this file.
        if self.progress.stage == "power-on" and log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        with log.open("a") as opened:
            opened.write(f"[{_now()} bmc] {line}\n")


def _this_lab() -> int:
    return Path("/proc/self/ns/net").stat().st_ino


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
