"""From the events of a play to its outcome, and to the message of a failure."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sitewright.provider.artifacts import Artifacts, new_record
from sitewright.provider.failures import HostFailure, describe
from sitewright.provider.play import Play
from sitewright.provider.progress import NoLog, Progress
from sitewright.provider.redact import Redactor

COUNTS = {"ok": 1, "changed": 0, "failures": 0, "unreachable": 0, "skipped": 0, "rescued": 0, "ignored": 0}


@pytest.fixture
def play(tmp_path: Path) -> Play:
    record = new_record("r", "run", "playbooks/p.yml", None, None, "")
    redact = Redactor(["hush!"])
    return Play(Progress(NoLog(), "urn"), Artifacts(tmp_path, record, redact), redact)


def result(host: str, task: str, status: str, **more: Any) -> dict[str, Any]:
    base = {"event": "result", "time": 1.0, "host": host, "task": task, "status": status, "seconds": 0.5}
    return {**base, "message": "", "detail": "", **more}


def stats(**hosts: dict[str, int]) -> dict[str, Any]:
    counted = {host: {**COUNTS, **counts} for host, counts in hosts.items()}
    return {"event": "stats", "hosts": counted, "results": {"a": 1}, "per_host": {}}


def test_a_rescued_failure_is_none(play: Play) -> None:
    play.handle(result("n1", "try", "failed", message="no"))
    play.handle(stats(n1={"rescued": 1}))
    assert play.failures() == [] and play.complete and play.results == {"a": 1}


def test_the_first_failure_of_a_host_is_the_cause(play: Play) -> None:
    play.handle(result("n1", "work", "failed", message="no"))
    play.handle(result("n1", "clean up", "failed", message="neither"))
    play.handle(stats(n1={"failures": 2}))
    assert [(failure.host, failure.task) for failure in play.failures()] == [("n1", "work")]


def test_results_per_host_are_kept_apart(play: Play) -> None:
    play.handle({**stats(n1={}), "per_host": {"n1": {"b": 2}}})
    assert play.results == {"a": 1, "per_host": {"n1": {"b": 2}}}


def test_what_events_say_is_redacted_before_anyone_sees_it(play: Play, tmp_path: Path) -> None:
    play.handle(result("n1", "work with hush!", "failed", message="it is hush!", detail="hush!"))
    (failure,) = play.failures()
    assert "hush" not in f"{failure}"
    assert "hush" not in next(tmp_path.glob(".sitewright/runs/*/events.jsonl")).read_text()


def test_hosts_that_failed_alike_are_named_together() -> None:
    failures = [
        HostFailure(f"x1000c0s{slot}b0n0", "Join", "no route", "line one\nno route") for slot in range(8)
    ]
    text = describe("playbooks/join.yml", failures, [])
    assert text == 'playbooks/join.yml: task "Join" failed on x1000c0s[0-7]b0n0: no route\n  line one'


def test_many_different_failures_are_cut_short() -> None:
    failures = [HostFailure(f"n{number}", "Join", f"reason {number}") for number in range(9)]
    lines = describe("p.yml", failures, []).splitlines()
    assert len(lines) == 6 and lines[-1] == "and 4 more failures"


def test_without_a_failed_host_ansible_speaks_for_itself() -> None:
    output = [
        "",
        "PLAY [x]",
        "[ERROR]: the role 'r' was not found",
        "Origin: p.yml:3",
        "Traceback (most recent",
        "  x",
    ]
    expected = "p.yml: Ansible stopped:\n  [ERROR]: the role 'r' was not found\n  Origin: p.yml:3"
    assert describe("p.yml", [], output) == expected


def test_the_status_line_says_task_hosts_count_and_seconds() -> None:
    progress = Progress(NoLog(), "urn")
    assert progress.line() == "starting Ansible, 0 s"
    progress.total = 40
    progress.begin_task("Install the kubelet", 12)
    progress.begin_host("svc-cp")
    assert progress.line() == "Install the kubelet (svc-cp) 12/40, 0 s"
    for host in ("n3", "n1", "n2"):
        progress.begin_host(host)
    progress.note = "try 3 of 24"
    assert progress.line() == "Install the kubelet (n1 and 3 more) 12/40, try 3 of 24, 0 s"


def test_status_lines_do_not_flood_the_display() -> None:
    class Counting(NoLog):
        lines = 0

        async def status(self, urn: str, message: str) -> None:
            self.lines += 1

    log = Counting()
    progress = Progress(log, "urn")

    async def burst() -> None:
        for _ in range(1000):
            await progress.show()

    asyncio.run(burst())
    assert log.lines <= 2


def test_the_callback_explains_failures_like_a_person() -> None:
    from sitewright.provider.callback_plugins.sitewright_events import _explain

    assert _explain({"msg": "non-zero return code", "rc": 2, "stderr": "a\n\nb", "stdout": "c"}) == {
        "message": "non-zero return code (rc 2)", "detail": "a\nb",
    }  # fmt: skip
    items = {
        "msg": "All items completed",
        "results": [{"item": 1}, {"item": {"n": 2}, "failed": True, "msg": "no"}],
    }
    assert _explain(items)["message"] == "item {'n': 2}: no"
    assert (
        _explain({"censored": "hidden", "failed": True})["message"]
        == "no message, because the task has no_log"
    )
    assert _explain({})["message"] == "failed without a message"
    assert json.dumps(_explain({"msg": None, "stdout": "x\n" * 100})).count("x") == 10
