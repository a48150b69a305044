"""Conditions, and the status of machines."""

from typing import Any

import pytest

from lab.hypervisor import conditions, report
from lab.hypervisor.conditions import condition
from lab.hypervisor.pending import Pending
from lab.hypervisor.report import Seen

LONG_AGO = "2020-01-01T00:00:00Z"
SPEC = {"domain": {}}


def machine(**status: Any) -> dict[str, Any]:
    spec = {"runStrategy": "RerunOnFailure", "template": {"spec": SPEC}}
    return {"metadata": {"name": "m", "generation": 3}, "spec": spec, "status": status}


def instance(phase: str, connected: bool = False, **spec: Any) -> dict[str, Any]:
    state = [condition("Ready", phase == "Running", message="why"), condition("AgentConnected", connected)]
    return {"spec": {**SPEC, **spec}, "status": {"phase": phase, "conditions": state}}


def states(status: dict[str, Any]) -> dict[str, str]:
    return {entry["type"]: entry["status"] for entry in status["conditions"]}


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    before = [{**condition("Ready", True), "lastTransitionTime": LONG_AGO}]
    [same] = conditions.merged(before, [condition("Ready", True, "Other", "another message")])
    [changed] = conditions.merged(before, [condition("Ready", False)])
    assert same["lastTransitionTime"] == LONG_AGO and same["message"] == "another message"
    assert conditions.age(changed["lastTransitionTime"]) < 5


def test_a_condition_that_no_longer_applies_goes() -> None:
    before = [{**condition("Failure", True), "lastTransitionTime": LONG_AGO}]
    assert [entry["type"] for entry in conditions.merged(before, [condition("Ready", True)])] == ["Ready"]


@pytest.mark.parametrize(
    ("seen", "printable", "ready"),
    [
        (Seen(), "Stopped", "False"),
        (Seen(start_failure={"consecutiveFailCount": 2}), "CrashLoopBackOff", "False"),
        (
            Seen(pending=Pending("ErrorPvcNotFound", "FailedPvcNotFound", "no volume")),
            "ErrorPvcNotFound",
            "False",
        ),
        (Seen(instance=instance("Scheduling")), "Starting", "False"),
        (Seen(instance=instance("Running")), "Running", "True"),
        (
            Seen(instance=instance("Running"), pending=Pending("Provisioning", "X", "volume")),
            "Running",
            "True",
        ),
        (Seen(instance=instance("Running"), going="Stopping"), "Stopping", "False"),
        (Seen(instance=instance("Running"), going="Terminating"), "Terminating", "False"),
        (Seen(instance=instance("Succeeded")), "Stopped", "False"),
        (Seen(instance=instance("Failed")), "Stopped", "False"),
    ],
)
def test_a_machine_has_one_word_and_ready_for_its_state(seen: Seen, printable: str, ready: str) -> None:
    status = report.status(machine(), seen)
    assert (status["printableStatus"], states(status)["Ready"]) == (printable, ready)
    assert status["created"] == (True if seen.instance else None)
    assert status["observedGeneration"] == 3


def test_why_a_machine_waits_is_in_its_conditions() -> None:
    status = report.status(
        machine(), Seen(pending=Pending("Starting", "SecretNotFound", "Secret a/b is not there"))
    )
    by_type = {entry["type"]: entry for entry in status["conditions"]}
    assert by_type["Ready"]["reason"] == by_type["Failure"]["reason"] == "SecretNotFound"
    assert by_type["Ready"]["message"] == "Secret a/b is not there"


def test_a_template_that_differs_from_what_runs_asks_for_a_restart() -> None:
    changed = report.status(machine(), Seen(instance=instance("Running", hostname="other")))
    assert states(changed)["RestartRequired"] == "True"
    assert "RestartRequired" not in states(report.status(machine(), Seen(instance=instance("Running"))))


def test_a_status_that_says_it_all_is_not_written_again() -> None:
    seen = Seen(instance=instance("Running", connected=True))
    once = report.status(machine(), seen)
    known = machine(**{name: value for name, value in once.items() if value is not None})
    assert report.changes(known, report.status(known, seen)) == {}
    assert report.changes(known, report.status(known, Seen()))["created"] is None
