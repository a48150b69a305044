"""Power control of many nodes at once, with BMCs that are not there."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lab.provisioner import pcs
from sitewright.errors import SitewrightError
from sitewright.provisioning.redfish import Bmc, Outcome

NODES = ["x1000c0s0b0n0", "x1000c0s0b1n0"]


class Power:
    """Stands in for sitewright.provisioning.redfish.power. deaf: nodes that ignore a shutdown;
    broken: BMCs that fail."""

    def __init__(self) -> None:
        self.state = dict.fromkeys(NODES, "Off")
        self.asked: list[tuple[str, str]] = []
        self.deaf: set[str] = set()
        self.broken: set[str] = set()

    def __call__(self, bmc: Bmc, action: str, wait: float) -> Outcome:
        if bmc.name in self.broken:
            raise SitewrightError(f"BMC of {bmc.name}: no answer within 10 s")
        if action != "status":
            self.asked.append((bmc.name, action))
        if action == "shutdown" and bmc.name in self.deaf:
            return Outcome(bmc.name, action, detail="accepted GracefulShutdown, power is still On after 1 s")
        after: dict[str, Any] = {"on": "On", "cycle": "On", "restart": "On", "off": "Off", "shutdown": "Off"}
        self.state[bmc.name] = after.get(action, self.state[bmc.name])
        return Outcome(bmc.name, action, after=self.state[bmc.name])  # type: ignore[arg-type]


def bmc_of(xname: str) -> Bmc:
    if xname not in NODES:
        raise SitewrightError(f"{xname} is no node of the site lab")
    return Bmc(xname, "https://bmc", "root", "secret")


@pytest.fixture
def power() -> Power:
    return Power()


@pytest.fixture
def client(power: Power) -> Iterator[TestClient]:
    with TestClient(pcs.build(bmc_of, lambda: list(NODES), power)) as made:
        yield made


def finished(client: TestClient, operation: str, xnames: list[str]) -> dict[str, Any]:
    body = {"operation": operation, "location": [{"xname": xname} for xname in xnames]}
    begun = client.post("/v1/transitions", json=body).json()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        transition = client.get(f"/v1/transitions/{begun['transitionID']}").json()
        if transition["transitionStatus"] == "completed":
            return transition
        time.sleep(0.005)
    raise AssertionError(transition)


@pytest.mark.parametrize("path", ["/transitions", "/v1/transitions"])
def test_a_transition_is_answered_at_once_under_both_paths(client: TestClient, path: str) -> None:
    answer = client.post(path, json={"operation": "on", "location": [{"xname": NODES[0]}]})
    assert answer.status_code == 200
    assert answer.json()["operation"] == "On"


@pytest.mark.parametrize(
    ("operation", "actions"),
    [
        ("On", ["on"]),
        ("Force-Off", ["off"]),
        ("Soft-Off", ["shutdown"]),
        ("off", ["shutdown"]),
        ("Soft-Restart", ["restart"]),
        ("HARD-RESTART", ["cycle"]),
        ("Init", ["cycle"]),
    ],
)
def test_an_operation_is_done_by_these_actions(
    client: TestClient, power: Power, operation: str, actions: list[str]
) -> None:
    counts = finished(client, operation, [NODES[0]])["taskCounts"]
    assert counts == {"total": 1, "new": 0, "in-progress": 0, "failed": 0, "succeeded": 1, "un-supported": 0}
    assert power.asked == [(NODES[0], action) for action in actions]


def test_off_cuts_the_power_of_a_node_that_ignores_the_shutdown(client: TestClient, power: Power) -> None:
    power.deaf = {NODES[0]}
    assert finished(client, "Off", [NODES[0]])["taskCounts"]["succeeded"] == 1
    assert power.asked == [(NODES[0], "shutdown"), (NODES[0], "off")]


def test_a_soft_off_that_is_ignored_fails_and_is_not_made_harder(client: TestClient, power: Power) -> None:
    power.deaf = {NODES[0]}
    (task,) = finished(client, "Soft-Off", [NODES[0]])["tasks"]
    assert task["taskStatus"] == "failed"
    assert power.asked == [(NODES[0], "shutdown")]


def test_one_failed_node_does_not_fail_the_others(client: TestClient, power: Power) -> None:
    power.broken = {NODES[1]}
    done = finished(client, "On", [*NODES, "x9000c0s0b0n0"])
    assert (done["taskCounts"]["succeeded"], done["taskCounts"]["failed"]) == (1, 2)
    errors = {task["xname"]: task.get("error", "") for task in done["tasks"]}
    assert errors[NODES[0]] == ""
    assert "no answer" in errors[NODES[1]]
    assert "is no node of the site" in errors["x9000c0s0b0n0"]


@pytest.mark.parametrize(
    "body", [{"operation": "Explode", "location": [{"xname": NODES[0]}]}, {"operation": "On", "location": []}]
)
def test_a_bad_request_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    assert client.post("/transitions", json=body).status_code == 400


def test_a_transition_that_is_complete_cannot_be_aborted(client: TestClient) -> None:
    done = finished(client, "On", [NODES[0]])
    assert client.delete(f"/transitions/{done['transitionID']}").status_code == 400
    assert client.delete("/transitions/unknown").status_code == 404


def test_power_status_filters_and_says_which_bmc_does_not_answer(client: TestClient, power: Power) -> None:
    power.state[NODES[0]] = "On"
    power.broken = {NODES[1]}
    both = {entry["xname"]: entry for entry in client.get("/v1/power-status").json()["status"]}
    assert (both[NODES[0]]["powerState"], both[NODES[0]]["managementState"]) == ("on", "available")
    assert (both[NODES[1]]["powerState"], both[NODES[1]]["managementState"]) == ("undefined", "unavailable")
    on = client.post("/power-status", json={"powerStateFilter": "on"}).json()["status"]
    assert [entry["xname"] for entry in on] == [NODES[0]]
    one = client.get(f"/power-status?xname={NODES[1]}").json()["status"]
    assert [entry["xname"] for entry in one] == [NODES[1]]
