"""Power of nodes through OpenCHAMI's power control (PCS), which asks the BMCs itself: one request for all nodes.

A node that fails does not fail the request: its task says so. PCS sees power late (power-control issue 17), so what it
says after a transition is asked until it follows, or the time is over.
Source: OpenCHAMI power-control 2.12; the recorded paths are /v1/transitions and /v1/power-status.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from sitewright.errors import SitewrightError
from sitewright.provisioning.openchami_http import Http, Services
from sitewright.provisioning.redfish import ACTIONS, Outcome, PowerState, power_state

OPERATIONS = {
    "on": "On",
    "running": "On",
    "off": "Force-Off",
    "shutdown": "Soft-Off",
    "restart": "Soft-Restart",
    "force-restart": "Hard-Restart",
    "cycle": "Init",
}
POLL_SECONDS = 1.0


class Pcs:
    """url: base of the service, without /v1; token: JWT. clock, sleep and transport: replaced in tests."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = Http(Services("", "", "", token, url), transport=transport)
        self._sleep, self._clock = sleep, clock

    def power(self, names: Sequence[str], action: str, wait: float, check: bool = False) -> list[Outcome]:
        """Bring the nodes' power where `action` (a key of ACTIONS) leads; in the order given.

        wait: seconds until the power must have followed; check: only say what would be done.
        Raises: SitewrightError where PCS itself does not answer, or refuses.
        """
        before = self._states(names)
        wanted = ACTIONS[action]
        found = {
            name: before[name] if wanted is None else self._planned(before[name], action) for name in names
        }
        due = [name for name in names if found[name].changed]
        if due and not check:
            found |= self._carry_out({name: found[name] for name in due}, wait)
        return [found[name] for name in names]

    def _planned(self, before: Outcome, action: str) -> Outcome:
        wanted = ACTIONS[action]
        assert wanted is not None
        planned = Outcome(before.name, action, before.before, before.after, error=before.error)
        if before.error or (before.after == wanted.leads_to and not wanted.needs_on and action != "cycle"):
            return planned
        if wanted.needs_on and before.after == "Off":
            why = f"{before.name}: the node is off, so {OPERATIONS[action]} cannot be done"
            return Outcome(
                before.name, action, "Off", "Off", error=SitewrightError(why, "Ask for `on` instead.")
            )
        sent = "On" if action == "cycle" and before.after == "Off" else OPERATIONS[action]
        return Outcome(before.name, action, before.before, before.after, changed=True, sent=sent)

    def _carry_out(self, planned: Mapping[str, Outcome], wait: float) -> dict[str, Outcome]:
        deadline = self._clock() + wait
        tasks: dict[str, dict[str, Any]] = {}
        for operation in dict.fromkeys(outcome.sent for outcome in planned.values()):
            names = [name for name, outcome in planned.items() if outcome.sent == operation]
            tasks |= self._transition(operation, names, deadline)
        after = self._followed(planned, tasks, deadline)
        return {name: _ended(planned[name], tasks.get(name, {}), after[name].after) for name in planned}

    def _transition(self, operation: str, names: Sequence[str], deadline: float) -> dict[str, dict[str, Any]]:
        """The task of each node, when all have ended or the time is over."""
        minutes = max(1, round((deadline - self._clock()) / 60))
        body = {
            "operation": operation,
            "taskDeadlineMinutes": minutes,
            "location": [{"xname": name} for name in names],
        }
        # Once: a restart that was begun and not answered would be done twice.
        begun = self._http.call("pcs", "POST", "/v1/transitions", body, tries=1).json()
        path = f"/v1/transitions/{begun['transitionID']}"
        while True:
            known = self._http.call("pcs", "GET", path).json()
            if known["transitionStatus"] in ("completed", "aborted") or self._clock() >= deadline:
                return {task["xname"]: task for task in known.get("tasks") or []}
            self._sleep(POLL_SECONDS)

    def _followed(
        self, planned: Mapping[str, Outcome], tasks: Mapping[str, dict[str, Any]], deadline: float
    ) -> dict[str, Outcome]:
        while True:
            states = self._states(list(planned))
            late = [
                name
                for name, outcome in planned.items()
                if tasks.get(name, {}).get("taskStatus") == "succeeded"
                and states[name].after != _leads_to(outcome.action)
            ]
            if not late or self._clock() >= deadline:
                return states
            self._sleep(POLL_SECONDS)

    def _states(self, names: Sequence[str]) -> dict[str, Outcome]:
        answer = self._http.call("pcs", "POST", "/v1/power-status", {"xname": list(names)}).json()
        known = {entry["xname"]: entry for entry in answer.get("status") or []}
        return {name: _seen(name, known.get(name)) for name in names}


def _seen(name: str, entry: Mapping[str, Any] | None) -> Outcome:
    if entry is None:
        return Outcome(
            name, "status", error=SitewrightError(f"{name}: PCS does not know it", "SMD must have it.")
        )
    if entry.get("managementState") == "unavailable":
        why = entry.get("error") or "its BMC does not answer PCS"
        return Outcome(name, "status", error=SitewrightError(f"{name}: {why}"))
    state = power_state(entry.get("powerState"))
    return Outcome(name, "status", before=state, after=state)


def _ended(planned: Outcome, task: Mapping[str, Any], after: PowerState) -> Outcome:
    status, said = task.get("taskStatus"), task.get("error") or task.get("taskStatusDescription") or ""
    error = None
    if status in ("failed", "un-supported"):
        error = SitewrightError(f"{planned.name}: PCS: {planned.sent}: {said or status}")
    late = after != _leads_to(planned.action)
    detail = f"accepted {planned.sent}, power is still {after}" if late and not error else ""
    return Outcome(
        planned.name, planned.action, planned.before, after, error is None, planned.sent, detail, error
    )


def _leads_to(action: str) -> PowerState:
    wanted = ACTIONS[action]
    assert wanted is not None
    return wanted.leads_to
