"""Conditions of a status, as Kubernetes keeps them: one per type, the time being that of the last change."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

Condition = dict[str, Any]


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(timestamp: str) -> float:
    """Seconds since a timestamp of the API."""
    return (datetime.now(UTC) - datetime.fromisoformat(timestamp.replace("Z", "+00:00"))).total_seconds()


def condition(kind: str, holds: bool, reason: str = "", message: str = "") -> Condition:
    text = {key: value for key, value in (("reason", reason), ("message", message)) if value}
    return {"type": kind, "status": "True" if holds else "False", **text}


def merged(before: Iterable[Condition] | None, after: Iterable[Condition]) -> list[Condition]:
    """`after` with its times: kept where the status of the condition is the one of before, else now."""
    known = {entry["type"]: entry for entry in before or ()}
    return [{**entry, "lastTransitionTime": _time(known.get(entry["type"]), entry)} for entry in after]


def holds(body: Mapping[str, Any], kind: str) -> bool:
    # A CustomResourceDefinition that is new has `null` there.
    conditions = body.get("status", {}).get("conditions") or []
    return any(entry["type"] == kind and entry["status"] == "True" for entry in conditions)


def message(body: Mapping[str, Any], kind: str) -> str:
    conditions = body.get("status", {}).get("conditions", [])
    return next((entry.get("message", "") for entry in conditions if entry["type"] == kind), "")


def _time(before: Condition | None, after: Condition) -> str:
    unchanged = before is not None and before["status"] == after["status"]
    return before["lastTransitionTime"] if before is not None and unchanged else now()
