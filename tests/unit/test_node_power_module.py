"""The Ansible module node_power: what it hands to sitewright.provisioning.redfish, and what it gives back."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from sitewright.provisioning.redfish import ACTIONS, Bmc, Outcome, RedfishError

sys.path.insert(0, str(Path(__file__).parents[2] / "playbooks" / "library"))
import node_power

NODES = [
    {"xname": "x1000c0s0b0n0", "url": "https://10.77.0.160:8443"},
    {"xname": "x1000c0s0b1n0", "url": "https://10.77.0.161:8443", "system": "Node1"},
]


class Recorder:
    """Stands in for power_all."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        self.outcomes = outcomes
        self.asked: tuple[list[Bmc], str, int, float, bool] | None = None

    def __call__(self, bmcs: list[Bmc], action: str, limit: int, wait: float, check: bool) -> list[Outcome]:
        self.asked = (bmcs, action, limit, wait, check)
        return self.outcomes


def run(
    monkeypatch: pytest.MonkeyPatch, outcomes: list[Outcome], **extra: Any
) -> tuple[Recorder, dict[str, Any]]:
    """Run the module as Ansible does. Returns what was asked and the module's result."""
    recorder, out = Recorder(outcomes), io.StringIO()
    monkeypatch.setattr(node_power, "power_all", recorder)
    monkeypatch.setattr(sys, "stdout", out)
    arguments = {"nodes": NODES, "username": "admin", "password": "canary", "action": "on"} | extra
    with patch_module_args(arguments), pytest.raises(SystemExit):
        node_power.main()
    return recorder, json.loads(out.getvalue())


def test_nodes_become_bmcs_and_a_system_defaults_to_the_xname(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, _ = run(monkeypatch, [], ca_file="/ca.crt", limit=4, timeout=9, _ansible_check_mode=True)
    assert recorder.asked is not None
    bmcs, *rest = recorder.asked
    assert [(bmc.name, bmc.url, bmc.system) for bmc in bmcs] == [
        ("x1000c0s0b0n0", "https://10.77.0.160:8443", "x1000c0s0b0n0"),
        ("x1000c0s0b1n0", "https://10.77.0.161:8443", "Node1"),
    ]
    assert (bmcs[0].username, bmcs[0].password, bmcs[0].ca_file) == ("admin", "canary", Path("/ca.crt"))
    assert rest == ["on", 4, 9.0, True]


def test_the_result_tells_what_happened_to_each_node(monkeypatch: pytest.MonkeyPatch) -> None:
    done = Outcome("x1000c0s0b0n0", "on", "Off", "On", True, "On")
    there = Outcome("x1000c0s0b1n0", "on", "On", "On")
    _, result = run(monkeypatch, [done, there])
    assert result["changed"] is True
    assert result["table"] == ["x1000c0s0b0n0: Off -> On", "x1000c0s0b1n0: already On"]
    assert result["nodes"][0]["sent"] == "On"


def test_one_failed_node_fails_the_task_and_the_others_are_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    done = Outcome("x1000c0s0b0n0", "on", "Off", "On", True, "On")
    failed = Outcome("x1000c0s0b1n0", "on", error=RedfishError("BMC of x1000c0s0b1n0: no answer", "Look."))
    _, result = run(monkeypatch, [done, failed])
    assert result["failed"] is True
    assert result["msg"] == "1 of 2 nodes: BMC of x1000c0s0b1n0: no answer\n  Look."
    assert result["table"] == [
        "x1000c0s0b0n0: Off -> On",
        "x1000c0s0b1n0: failed: BMC of x1000c0s0b1n0: no answer",
    ]


def test_a_reset_that_was_accepted_and_not_yet_followed_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was taken for one elsewhere: DMTF/Redfishtool#55."""
    accepted = Outcome("x1000c0s0b0n0", "on", "Off", "Off", True, "On", "accepted On, power is still Off")
    _, result = run(monkeypatch, [accepted])
    assert "failed" not in result
    assert result["table"] == ["x1000c0s0b0n0: Off -> Off (accepted On, power is still Off)"]


def test_the_password_is_not_in_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    _, result = run(monkeypatch, [Outcome("x1000c0s0b0n0", "on", detail="canary")])
    assert "canary" not in json.dumps(result)


def test_the_actions_are_those_of_the_client_and_documented() -> None:
    documented = yaml.safe_load(node_power.DOCUMENTATION)["options"]
    assert node_power.ARGUMENTS["action"]["choices"] == documented["action"]["choices"] == list(ACTIONS)
    assert set(documented) == set(node_power.ARGUMENTS)
