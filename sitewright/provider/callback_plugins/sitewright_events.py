"""Ansible callback that tells the provider what a play does, one JSON object per line through a socket.

Loaded by ansible-playbook, not by the provider; so it imports nothing of sitewright. Task results are left
out except for what a person needs of a failure; `set_stats` values go out uncensored, because the provider is
their destination (the socket lies in the run's private directory).
"""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: sitewright_events
type: notification
short_description: events of a play for sitewright's Pulumi provider
description: Writes JSON lines to the socket named in SITEWRIGHT_EVENTS.
"""

_TAIL = 10
"""Lines of a command's output that go into a failure's detail."""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "sitewright_events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(os.environ["SITEWRIGHT_EVENTS"])
        self._started: dict[tuple[str, str], float] = {}
        self._number = 0
        self._play = ""

    def _send(self, event: str, **data: Any) -> None:
        line = json.dumps({"event": event, "time": time.time(), **data}, default=str)
        self._socket.sendall(line.encode(errors="replace") + b"\n")

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._send("start", total=sum(_count_tasks(play) for play in playbook.get_plays()))

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._play = play.get_name().strip()
        self._send("play", name=self._play)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        self._send("no_hosts", name=self._play)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._number += 1
        self._send("task", task=_task_name(task), number=self._number)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self._send("task", task=_task_name(task), number=self._number)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._started[host.name, task._uuid] = time.monotonic()
        self._send("host", host=host.name, task=_task_name(task))

    def v2_runner_retry(self, result: Any) -> None:
        data = result.result
        self._send(
            "retry",
            host=result.host.name,
            task=_task_name(result.task),
            attempt=data.get("attempts", 0),
            retries=data.get("retries", 1) - 1,
        )

    def v2_runner_on_ok(self, result: Any) -> None:
        self._result(result, "changed" if result.is_changed() else "ok")

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._result(result, "skipped")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._result(result, "ignored" if ignore_errors else "failed", **_explain(result.result))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        ignored = result.task.ignore_unreachable
        self._result(result, "ignored" if ignored else "unreachable", **_explain(result.result))

    def _result(self, result: Any, status: str, **more: Any) -> None:
        started = self._started.pop((result.host.name, result.task._uuid), None)
        seconds = round(time.monotonic() - started, 3) if started else 0.0
        self._send(
            "result",
            host=result.host.name,
            task=_task_name(result.task),
            status=status,
            seconds=seconds,
            **more,
        )

    def v2_playbook_on_stats(self, stats: Any) -> None:
        hosts = {host: stats.summarize(host) for host in sorted(stats.processed)}
        custom = dict(stats.custom)
        self._send("stats", hosts=hosts, results=custom.pop("_run", {}), per_host=custom)


def _task_name(task: Any) -> str:
    return str(task.get_name()).strip()


def _count_tasks(play: Any) -> int:
    """Tasks of a play as far as they are known before it starts: what is included later only adds to them."""
    return sum(_count(block) for block in play.compile())


def _count(part: Any) -> int:
    if hasattr(part, "block"):
        return sum(_count(child) for child in part.block)
    return 0 if part.action in ("meta", "ansible.builtin.meta") else 1


def _explain(result: dict[str, Any]) -> dict[str, str]:
    """What a person needs of a failed result: the module's message, and the end of what it printed."""
    failed_item = _first_failed_item(result)
    data = failed_item or result
    message = str(data.get("msg") or data.get("reason") or "").strip()
    if message and data.get("rc"):
        message += f" (rc {data['rc']})"
    if data.get("censored"):
        message = "no message, because the task has no_log"
    if failed_item is not None and "censored" not in failed_item:
        label = failed_item.get("_ansible_item_label", failed_item.get("item"))
        message = f"item {label}: {message}"
    printed = next(
        (data[key] for key in ("stderr", "module_stderr", "stdout", "module_stdout") if data.get(key)), ""
    )
    tail = [line for line in str(printed).splitlines() if line.strip()][-_TAIL:]
    return {"message": message or "failed without a message", "detail": "\n".join(tail)}


def _first_failed_item(result: dict[str, Any]) -> dict[str, Any] | None:
    items = result.get("results")
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict) and (
            item.get("failed") or item.get("failed_when_result") or item.get("unreachable")
        ):
            return item
    return None
