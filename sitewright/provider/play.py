"""What is known of a play from the events of our Ansible callback (callback_plugins/sitewright_events.py)."""

from __future__ import annotations

from typing import Any

from sitewright.provider.artifacts import Artifacts
from sitewright.provider.failures import HostFailure
from sitewright.provider.progress import Progress
from sitewright.provider.redact import Redactor


class Play:
    """Follows one ansible-playbook run, event by event. Texts are redacted on the way in; results are not."""

    def __init__(self, progress: Progress, artifacts: Artifacts, redact: Redactor) -> None:
        self._progress = progress
        self._artifacts = artifacts
        self._redact = redact
        self._failures: dict[str, list[HostFailure]] = {}
        self.changes: list[str] = []
        self.hosts: dict[str, dict[str, int]] = {}
        self.results: dict[str, Any] = {}
        self.plays = 0
        self.plays_without_hosts: list[str] = []
        self.complete = False

    def handle(self, event: dict[str, Any]) -> None:
        handler = getattr(self, f"_on_{event['event']}")
        if event["event"] == "stats":
            handler(event)
        else:
            handler(self._redact.data(event))

    @property
    def changed(self) -> bool:
        return any(stats["changed"] for stats in self.hosts.values())

    def failures(self) -> list[HostFailure]:
        """One for each host that was lost. Its first failure is the cause of later ones, unless a rescue took
        care of it."""
        lost = []
        for host, failures in self._failures.items():
            stats = self.hosts.get(host, {})
            if not self.complete or stats.get("failures") or stats.get("unreachable"):
                lost.append(failures[-1] if stats.get("rescued") else failures[0])
        return lost

    def _on_start(self, event: dict[str, Any]) -> None:
        self._progress.total = event["total"]

    def _on_play(self, event: dict[str, Any]) -> None:
        self.plays += 1

    def _on_no_hosts(self, event: dict[str, Any]) -> None:
        self.plays_without_hosts.append(event["name"])

    def _on_task(self, event: dict[str, Any]) -> None:
        self._progress.begin_task(event["task"], event["number"])

    def _on_host(self, event: dict[str, Any]) -> None:
        self._progress.begin_host(event["host"])

    def _on_retry(self, event: dict[str, Any]) -> None:
        self._progress.note = f"try {event['attempt']} of {event['retries'] + 1}"

    def _on_result(self, event: dict[str, Any]) -> None:
        self._progress.end_host(event["host"])
        self._artifacts.event(**{key: event[key] for key in ("time", "task", "host", "status", "seconds")})
        if event["status"] == "changed":
            self.changes.append(f"{event['task']} ({event['host']})")
        if event["status"] in ("failed", "unreachable"):
            failure = HostFailure(
                event["host"],
                event["task"],
                event["message"],
                event["detail"],
                event["status"] == "unreachable",
            )
            self._failures.setdefault(event["host"], []).append(failure)

    def _on_stats(self, event: dict[str, Any]) -> None:
        self.hosts = event["hosts"]
        self.results = event["results"] | ({"per_host": event["per_host"]} if event["per_host"] else {})
        self.complete = True
