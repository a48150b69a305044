"""Power through PCS: our client and the lab's stand-in for the service, with BMCs that are not there."""

from collections.abc import Iterator

import httpx
import pytest
from fastapi.testclient import TestClient

from lab.provisioner import pcs as service
from sitewright.errors import SitewrightError
from sitewright.provisioning.pcs import Pcs
from tests.unit.test_provisioner_pcs import NODES, Power, bmc_of

FIRST, SECOND = NODES


@pytest.fixture
def power() -> Power:
    return Power()


@pytest.fixture
def pcs(power: Power) -> Iterator[Pcs]:
    with TestClient(service.build(bmc_of, lambda: list(NODES), power)) as client:

        def answers(request: httpx.Request) -> httpx.Response:
            said = client.request(request.method, request.url.path, content=request.content)
            return httpx.Response(said.status_code, json=said.json())

        yield Pcs("http://pcs", transport=httpx.MockTransport(answers), sleep=lambda _: None)


def test_all_nodes_are_switched_and_those_that_are_there_are_left_alone(pcs: Pcs, power: Power):
    power.state[SECOND] = "On"
    first, second = pcs.power(NODES, "on", 5)
    assert (first.before, first.after, first.changed, first.sent) == ("Off", "On", True, "On")
    assert (second.before, second.after, second.changed, second.sent) == ("On", "On", False, "")
    assert power.asked == [(FIRST, "on")]
    assert [one.after for one in pcs.power(NODES, "status", 5)] == ["On", "On"]


def test_a_dry_run_says_what_would_be_sent(pcs: Pcs, power: Power):
    power.state[FIRST] = "On"
    first, second = pcs.power(NODES, "cycle", 5, check=True)
    assert (first.sent, second.sent) == ("Init", "On")
    assert power.asked == []


@pytest.mark.parametrize(
    ("action", "sent"),
    [
        ("off", "Force-Off"),
        ("shutdown", "Soft-Off"),
        ("restart", "Soft-Restart"),
        ("force-restart", "Hard-Restart"),
        ("cycle", "Init"),
    ],
)
def test_each_action_has_its_operation(pcs: Pcs, power: Power, action: str, sent: str):
    power.state[FIRST] = "On"
    [outcome] = pcs.power([FIRST], action, 5)
    assert (outcome.sent, outcome.error) == (sent, None)


def test_a_node_that_is_off_is_not_restarted(pcs: Pcs, power: Power):
    [outcome] = pcs.power([FIRST], "restart", 5)
    assert "is off, so Soft-Restart cannot be done" in str(outcome.error)
    assert power.asked == []


def test_one_that_fails_is_named_and_stops_no_other(pcs: Pcs, power: Power):
    power.broken = {SECOND}
    first, second = pcs.power(NODES, "on", 5)
    assert first.after == "On" and first.error is None
    assert f"BMC of {SECOND}: no answer" in str(second.error)


def test_one_that_ignores_a_shutdown_is_told(pcs: Pcs, power: Power):
    power.state[FIRST], power.deaf = "On", {FIRST}
    [outcome] = pcs.power([FIRST], "shutdown", 0.2)
    assert outcome.error is not None and outcome.after == "On"


def test_a_node_that_pcs_does_not_know_is_told(power: Power):
    def answers(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"status": []})

    [outcome] = Pcs("http://pcs", transport=httpx.MockTransport(answers)).power([FIRST], "on", 1)
    assert f"{FIRST}: PCS does not know it" in str(outcome.error)


def test_a_transition_is_asked_for_once_and_what_it_answers_is_told():
    asked = []

    def answers(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        assert request.headers["Authorization"] == "Bearer jwt"
        if request.url.path == "/v1/power-status":
            state = {"xname": FIRST, "powerState": "on", "managementState": "available"}
            return httpx.Response(200, json={"status": [state]})
        return httpx.Response(503, text="busy")

    pcs = Pcs("http://pcs", "jwt", transport=httpx.MockTransport(answers), sleep=lambda _: None)
    with pytest.raises(SitewrightError, match="pcs: POST http://pcs/v1/transitions: 503 busy"):
        pcs.power([FIRST], "force-restart", 1)
    assert asked.count("/v1/transitions") == 1, "a restart that was begun would be done twice"
