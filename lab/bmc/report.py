"""How far a node is: one JSON file for `sitewright lab status`, and lines in the node's console log."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lab import paths

Stage = Literal[
    "off",
    "power-on",
    "firmware",  # from here to `initrd`, and from `cloud-init` to `kubelet`, of emulated nodes only
    "ipxe",
    "script",
    "kernel",
    "initrd",
    "image",
    "root",
    "start",
    "cloud-init",
    "join",
    "kubelet",
    "running",
    "retry",
    "shutdown",
]
LOG_LIMIT = 8 << 20
LAST_LINES = 12


@dataclass(frozen=True)
class Progress:
    """driver: what plays the node; power: what the power button was last set to; stage: where the node is;
    reached: how far it came, whatever became of it then; error: why it is not further, "" if nothing failed; hint:
    what to look at then; image: sha256 of its root file system; lab:
    which lab this was (its network namespace), so that one taken down and up again starts with its nodes off; since,
    updated: RFC 3339."""

    node: str
    driver: Literal["nspawn", "qemu"] = "nspawn"
    power: Literal["On", "Off"] = "Off"
    stage: Stage = "off"
    reached: Stage = "off"
    detail: str = ""
    error: str = ""
    hint: str = ""
    image: str = ""
    attempt: int = 0
    lab: int = 0
    since: str = ""
    updated: str = ""


def file_of(xname: str) -> Path:
    return paths.machine_dir(xname) / "boot.json"


def read(xname: str) -> Progress:
    """What was last reported of a node; a node that never reported is off."""
    return _read(file_of(xname), xname)


def last_boot(state_dir: Path, xname: str) -> dict[str, Any] | None:
    """How far the last boot of a node came, for `sitewright nodes show`; None where it never was switched on.
    state_dir: of the lab. Holds the fields of Progress, and of its console the file and the last lines."""
    directory = state_dir / "machines" / xname
    if not (directory / "boot.json").exists():
        return None
    log = directory / "console.log"
    fields = asdict(_read(directory / "boot.json", xname))
    kept = ("driver", "stage", "reached", "since", "detail", "error", "hint", "image")
    return {name: fields[name] for name in kept} | {"console": str(log), "last_lines": _tail(log)}


def _read(file: Path, xname: str) -> Progress:
    try:
        return Progress(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return Progress(node=xname)


def _tail(log: Path) -> list[str]:
    """The last lines that are not empty."""
    try:
        with log.open("rb") as opened:
            opened.seek(max(0, log.stat().st_size - 64 * 1024))
            text = opened.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-LAST_LINES:]


class Report:
    """Writes the progress of one node."""

    def __init__(self, xname: str) -> None:
        self._xname = xname
        self.progress = read(xname)

    def stage(self, stage: Stage, detail: str = "", error: str = "", **changes: str | int) -> None:
        """Enter a stage, or stay in it with something new to say. changes: fields of Progress. A node that is switched
        off keeps what is known of why it was not further."""
        now = _now()
        known = self.progress
        since = now if stage != self.progress.stage else self.progress.since or now
        fields: dict[str, str | int] = {
            "stage": stage,
            "reached": known.reached if stage in ("off", "retry", "shutdown") else stage,
            "detail": detail,
            "error": error or (known.error if stage == "off" else ""),
            "hint": known.hint if stage == "off" and not error else "",
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
        self.copy(f"[{_now()} bmc] {line}")

    def copy(self, line: str) -> None:
        """One line of the machine itself, where it does not write to the file by itself."""
        log = paths.machine_dir(self._xname) / "console.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        # Only now, between two lives of the node: while it runs, the machine itself writes to this file.
        if self.progress.stage == "power-on" and log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        with log.open("a") as opened:
            opened.write(f"{line}\n")


def _this_lab() -> int:
    return Path("/proc/self/ns/net").stat().st_ino


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
