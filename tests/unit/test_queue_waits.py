"""What a run in a queue is said to wait for. The conditions are those that Kueue 0.17.0 wrote in
tests/contracts/test_batch_queues_kueue.py."""

import pytest

from sitewright.tuning.queues import Wait, wait_of

RUNS = {"b3f41f10": "urgent-20261127-045025"}
PREEMPTED = (
    "Preempted to accommodate a workload (UID: 2cc30e53, JobUID: {}) due to prioritization in the ClusterQueue; "
    "preemptor path: /sitewright/fine-tuning; preemptee path: /sitewright/fine-tuning"
)
NO_QUOTA = (
    "couldn't assign flavors to pod set main: "
    "insufficient unused quota for memory in flavor gpu, 1Gi more needed"
)


def condition(kind: str, status: bool, reason: str, message: str) -> dict:
    return {"type": kind, "status": str(status), "reason": reason, "message": message}


def wait(*conditions: dict) -> Wait:
    return wait_of({"status": {"conditions": list(conditions)}}, RUNS)


PENDING = condition("QuotaReserved", False, "Pending", NO_QUOTA)
NOT_ADMITTED = condition("Admitted", False, "NoReservation", "The workload has no reservation")
ADMITTED = condition("Admitted", True, "Admitted", "The workload is admitted")
RESERVED = condition("QuotaReserved", True, "QuotaReserved", "Quota reserved in ClusterQueue fine-tuning")


def evicted(reason: str, message: str, status: bool = True) -> dict:
    return condition("Evicted", status, reason, message)


def test_a_run_that_waits_says_for_how_much_of_what():
    assert wait(PENDING) == Wait("queued", NO_QUOTA)


def test_a_run_that_made_way_says_for_which_one_and_what_it_lacks_now():
    found = wait(PENDING, evicted("Preempted", PREEMPTED.format("b3f41f10")), NOT_ADMITTED)
    made_way = "Preempted to accommodate urgent-20261127-045025 due to prioritization in the ClusterQueue"
    assert found == Wait("preempted", f"{made_way}; {NO_QUOTA}")


def test_a_run_that_made_way_for_something_else_keeps_its_numbers():
    found = wait(evicted("Preempted", PREEMPTED.format("0000")))
    assert "a workload (UID: 2cc30e53, JobUID: 0000)" in found.reason


def test_a_run_that_has_its_turn_again_is_admitted_whatever_was_before():
    assert wait(RESERVED, evicted("QuotaReserved", "Previously: …", status=False), ADMITTED) == Wait(
        "admitted"
    )


def test_a_run_that_was_put_back_for_another_reason_did_not_make_way():
    said = "Exceeded the PodsReady timeout fine-tuning/job-tiny"
    assert wait(evicted("PodsReadyTimeout", said), PENDING) == Wait("queued", f"{said}; {NO_QUOTA}")


@pytest.mark.parametrize("workload", [{}, {"status": {}}, {"status": {"conditions": []}}])
def test_a_run_that_nobody_looked_at_says_so(workload: dict):
    assert wait_of(workload, {}) == Wait("queued", "Kueue has not looked at it yet")


def test_what_is_said_twice_is_shown_once():
    said = "ClusterQueue fine-tuning is inactive"
    assert wait(
        evicted("ClusterQueueStopped", said), condition("QuotaReserved", False, "Inadmissible", said)
    ) == Wait("queued", said)
