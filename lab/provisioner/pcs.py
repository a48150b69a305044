"""PCS, power control: transitions of many nodes, run in the background through their BMCs.

A failed node does not fail the call: its task says so, and `taskCounts` counts it.

Source: OpenCHAMI power-control 2.12, paths at `/` and `/v1`; reference in the service's own API description.
"""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from lab.provisioner.answers import Problem, answer, empty, new_app, read_object
from lab.provisioner.names import normal_xname
from sitewright.errors import SitewrightError
from sitewright.provisioning.redfish import Bmc, Outcome, power

# Operation → the actions tried one after the other until the node's power is where it should be.
OPERATIONS = {
    "on": ("On", ("on",)),
    "off": ("Off", ("shutdown", "off")),
    "soft-off": ("Soft-Off", ("shutdown",)),
    "force-off": ("Force-Off", ("off",)),
    "soft-restart": ("Soft-Restart", ("restart",)),
    "hard-restart": ("Hard-Restart", ("cycle",)),
    "init": ("Init", ("cycle",)),
}
AT_ONCE = 16
LIFETIME = timedelta(hours=24)
TRANSITIONS = ["On", "Off", "Soft-Off", "Soft-Restart", "Hard-Restart", "Init", "Force-Off"]

BmcOf = Callable[[str], Bmc]
Power = Callable[[Bmc, str, float], Outcome]


@dataclass
class Task:
    xname: str
    status: str = "new"
    description: str = ""
    error: str = ""

    def shown(self) -> dict[str, str]:
        shown = {"xname": self.xname, "taskStatus": self.status, "taskStatusDescription": self.description}
        return shown | ({"error": self.error} if self.error else {})


@dataclass
class Transition:
    operation: str
    actions: tuple[str, ...]
    deadline: float
    tasks: list[Task]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    status: str = "new"

    def shown(self, with_tasks: bool = True) -> dict[str, Any]:
        states = [task.status for task in self.tasks]
        counts = {s: states.count(s) for s in ("new", "in-progress", "failed", "succeeded", "un-supported")}
        shown: dict[str, Any] = {
            "transitionID": self.id,
            "createTime": self.created.isoformat(),
            "automaticExpirationTime": (self.created + LIFETIME).isoformat(),
            "transitionStatus": self.status,
            "operation": self.operation,
            "taskCounts": {"total": len(states)} | counts,
        }
        return shown | ({"tasks": [task.shown() for task in self.tasks]} if with_tasks else {})


def new_transition(body: dict[str, Any]) -> Transition:
    """Raises Problem."""
    operation = str(body.get("operation", ""))
    if operation.lower() not in OPERATIONS:
        raise Problem(400, f"invalid operation '{operation}'; one of {', '.join(TRANSITIONS)}")
    xnames = [normal_xname(str(place.get("xname", ""))) for place in body.get("location") or []]
    if not xnames:
        raise Problem(400, "Missing xnames in location")
    name, actions = OPERATIONS[operation.lower()]
    minutes = float(body.get("taskDeadlineMinutes", 5))
    return Transition(name, actions, minutes * 60, [Task(xname) for xname in xnames])


class PowerControl:
    def __init__(self, bmc_of: BmcOf, power: Power) -> None:
        self._bmc_of = bmc_of
        self._power = power
        self._transitions: dict[str, Transition] = {}
        self._running: set[asyncio.Task[None]] = set()

    def known(self) -> list[Transition]:
        oldest = datetime.now(UTC) - LIFETIME
        self._transitions = {t.id: t for t in self._transitions.values() if t.created > oldest}
        return list(self._transitions.values())

    def find(self, transition_id: str) -> Transition:
        if transition_id not in self._transitions:
            raise Problem(404, f"TransitionID not found: {transition_id}")
        return self._transitions[transition_id]

    def begin(self, transition: Transition) -> None:
        self._transitions[transition.id] = transition
        job = asyncio.create_task(self._run(transition))
        self._running.add(job)  # asyncio itself keeps no reference: a job nobody holds may vanish
        job.add_done_callback(self._running.discard)

    async def _run(self, transition: Transition) -> None:
        transition.status = "in-progress"
        places = asyncio.Semaphore(AT_ONCE)

        async def one(task: Task) -> None:
            async with places:
                await self._run_task(transition, task)

        await asyncio.gather(*(one(task) for task in transition.tasks))
        transition.status = "aborted" if transition.status == "abort-signaled" else "completed"

    async def _run_task(self, transition: Transition, task: Task) -> None:
        if transition.status == "abort-signaled":
            task.status, task.description = "failed", "aborted before it began"
            return
        task.status, task.description = "in-progress", f"applying {transition.operation}"
        try:
            bmc = self._bmc_of(task.xname)
            for action in transition.actions:
                outcome = await asyncio.to_thread(self._power, bmc, action, transition.deadline)
                if not outcome.detail:
                    break
            if outcome.detail:
                raise SitewrightError(outcome.detail)
            task.status, task.description = "succeeded", f"Transition confirmed, {outcome.after.lower()}"
        except SitewrightError as error:
            task.status, task.description, task.error = "failed", "Failed", error.message

    async def state(self, xname: str) -> dict[str, Any]:
        """The power-status entry of one node; a BMC that does not answer is `unavailable`."""
        entry = {"xname": xname, "powerState": "undefined", "managementState": "unavailable", "error": None}
        try:
            outcome = await asyncio.to_thread(self._power, self._bmc_of(xname), "status", 0.0)
            state = outcome.after.lower()
            entry |= {
                "powerState": state if state in ("on", "off") else "undefined",
                "managementState": "available",
            }
        except SitewrightError as error:
            entry["error"] = error.message
        updated = datetime.now(UTC).isoformat()
        return entry | {"supportedPowerTransitions": TRANSITIONS, "lastUpdated": updated}


def build(bmc_of: BmcOf, xnames: Callable[[], list[str]], power: Power = power) -> FastAPI:
    """bmc_of: the BMC of a node, raises SitewrightError for one it does not know; xnames: all nodes."""
    app = new_app("PCS")
    control = PowerControl(bmc_of, power)
    for prefix in ("", "/v1"):
        app.include_router(_routes(control, xnames), prefix=prefix)
    return app


async def _body(request: Request) -> dict[str, Any]:
    try:
        return await read_object(request)
    except ValueError as error:
        raise Problem(400, f"error decoding JSON: {error}") from error


def _routes(control: PowerControl, xnames: Callable[[], list[str]]) -> APIRouter:
    router = APIRouter()

    @router.get("/liveness")
    @router.get("/readiness")
    async def alive() -> Response:
        return empty(204)

    @router.get("/health")
    async def health() -> Response:
        return answer({"KvStore": "connected", "StateManager": "connected", "Vault": "connected"})

    @router.post("/transitions")
    async def post_transition(request: Request) -> Response:
        transition = new_transition(await _body(request))
        control.begin(transition)
        return answer({"transitionID": transition.id, "operation": transition.operation})

    @router.get("/transitions")
    async def list_transitions() -> Response:
        return answer({"transitions": [transition.shown(with_tasks=False) for transition in control.known()]})

    @router.get("/transitions/{transition_id}")
    async def get_transition(transition_id: str) -> Response:
        return answer(control.find(transition_id).shown())

    @router.delete("/transitions/{transition_id}")
    async def abort_transition(transition_id: str) -> Response:
        transition = control.find(transition_id)
        if transition.status in ("completed", "aborted"):
            raise Problem(400, "Transition is complete; cannot be aborted")
        transition.status = "abort-signaled"
        return answer({"abortStatus": "Accepted - abort initiated"}, 202)

    async def status(wanted: list[str], power_filter: str, management_filter: str) -> Response:
        entries = await asyncio.gather(*(control.state(normal_xname(x)) for x in wanted or xnames()))
        return answer(
            {
                "status": [
                    entry
                    for entry in entries
                    if power_filter.lower() in ("", entry["powerState"])
                    and management_filter.lower() in ("", entry["managementState"])
                ]
            }
        )

    @router.get("/power-status")
    async def get_status(request: Request) -> Response:
        query = request.query_params
        wanted = [xname for value in query.getlist("xname") for xname in value.split(",")]
        return await status(wanted, query.get("powerStateFilter", ""), query.get("managementStateFilter", ""))

    @router.post("/power-status")
    async def post_status(request: Request) -> Response:
        body = await _body(request)
        filters = (body.get("powerStateFilter") or "", body.get("managementStateFilter") or "")
        return await status(list(body.get("xname") or []), *filters)

    return router
