"""Power of nodes, by Redfish.

    power(bmc, "on")                        one node
    power_all(bmcs, "restart", limit=16)    many, some at a time; a failure of one does not stop the others

Source: DMTF Redfish, schema ComputerSystem (`Reset`, `PowerState`) and Task.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx

from sitewright.errors import SitewrightError
from sitewright.provisioning.redfish_http import Bmc, RedfishError, RedfishHttp, Unanswered

if TYPE_CHECKING:
    from sitewright.site import Node, Site

__all__ = [
    "ACTIONS",
    "Bmc",
    "Outcome",
    "PowerState",
    "Redfish",
    "RedfishError",
    "bmc_of",
    "power",
    "power_all",
]

PowerState = Literal["On", "Off", "unknown"]
SYSTEMS = "/redfish/v1/Systems"
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Action:
    """What an operator may ask for: the ResetType sent, and the power state it leads to."""

    reset: str
    leads_to: PowerState
    needs_on: bool = False


ACTIONS: dict[str, Action | None] = {
    "status": None,
    "on": Action("On", "On"),
    "off": Action("ForceOff", "Off"),
    "shutdown": Action("GracefulShutdown", "Off"),
    "restart": Action("GracefulRestart", "On", needs_on=True),
    "force-restart": Action("ForceRestart", "On", needs_on=True),
    "cycle": Action("ForceOff", "On"),  # off, then on: the node boots anew whatever state it was in
    "running": Action("On", "On"),
}


@dataclass(frozen=True)
class Outcome:
    """What happened to one node.

    sent:   the ResetTypes sent, "" if none was needed; detail: what an operator should know besides.
    error:  None unless this node failed.
    """

    name: str
    action: str
    before: PowerState = "unknown"
    after: PowerState = "unknown"
    changed: bool = False
    sent: str = ""
    detail: str = ""
    error: SitewrightError | None = None


@dataclass(frozen=True)
class System:
    """allowed: the ResetTypes the BMC says it takes; None if it does not say."""

    path: str
    state: PowerState
    reset_target: str
    allowed: tuple[str, ...] | None


def power_state(value: Any) -> PowerState:
    """`On` and `Off` in any spelling; everything else, such as `Starting` or null, is unknown, never Off."""
    known: dict[str, PowerState] = {"on": "On", "off": "Off"}
    return known.get(str(value).strip().lower(), "unknown")


class Redfish:
    """One BMC, as a context manager. clock, sleep and transport: replaced in tests."""

    def __init__(
        self,
        bmc: Bmc,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = RedfishHttp(bmc, transport, sleep)
        self._bmc = bmc
        self._sleep = sleep
        self._clock = clock
        self._path = ""

    def __enter__(self) -> "Redfish":
        self._http.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._http.__exit__(*details)

    def system(self) -> System:
        """The system as it is now. Raises RedfishError."""
        if not self._path:
            self._path = self._find_system()
        resource = self._http.get(self._path)
        reset = (resource.get("Actions") or {}).get("#ComputerSystem.Reset") or {}
        return System(
            path=self._path,
            state=power_state(resource.get("PowerState")),
            reset_target=reset.get("target") or f"{self._path}/Actions/ComputerSystem.Reset",
            allowed=self._allowed(reset),
        )

    def _find_system(self) -> str:
        members = [member["@odata.id"] for member in self._http.get(SYSTEMS).get("Members") or []]
        ids = [path.rstrip("/").rsplit("/", 1)[-1] for path in members]
        wanted = self._bmc.system
        if not wanted:
            if len(members) == 1:
                return members[0]
            raise RedfishError(
                f"{self._bmc}: has {len(members)} systems: {', '.join(ids) or 'none'}",
                "Say which one is meant.",
            )
        # HPE Cray EX calls the nodes of a BMC Node0, Node1 …; elsewhere the xname may be an id or a name.
        for spelling in (wanted, f"Node{wanted.rpartition('n')[2]}"):
            if spelling in ids:
                return members[ids.index(spelling)]
        named = [path for path in members if self._http.get(path).get("Name") == wanted]
        if len(named) != 1:
            raise RedfishError(f"{self._bmc}: has no system {wanted!r}; it has {', '.join(ids) or 'none'}")
        return named[0]

    def _allowed(self, reset: dict[str, Any]) -> tuple[str, ...] | None:
        values = reset.get("ResetType@Redfish.AllowableValues")
        if values:
            return tuple(values)
        if reset.get("@Redfish.ActionInfo"):
            try:
                parameters = self._http.get(reset["@Redfish.ActionInfo"]).get("Parameters") or []
            except RedfishError:
                return None  # A list that cannot be read is no list: the BMC itself will refuse.
            for parameter in parameters:
                if parameter.get("Name") == "ResetType" and parameter.get("AllowableValues"):
                    return tuple(parameter["AllowableValues"])
        return None

    def reset(self, system: System, reset_type: str, wanted: PowerState, wait: float) -> str:
        """Send one reset and wait until the system is `wanted`. Returns a remark, or "".

        A BMC that switches power before it answers may answer too late: then its power state says whether it did.
        """
        if system.allowed is not None and reset_type not in system.allowed:
            raise RedfishError(
                f"{self._bmc}: does not take {reset_type}; it takes {', '.join(system.allowed)}",
                "Ask for one of these; nothing was sent.",
            )
        deadline = self._clock() + wait
        task, lost = "", None
        try:
            answer = self._http.post(system.reset_target, {"ResetType": reset_type})
            task = answer.headers.get("location", "") if answer.status_code == 202 else ""
        except Unanswered as error:
            if reset_type.endswith("Restart"):  # it is on before and after
                raise
            lost = error
        if task and not self._wait_for_task(task, deadline):
            return f"accepted {reset_type}, the BMC's task still runs after {wait:g} s"
        while (state := self.system().state) != wanted:
            if self._clock() >= deadline:
                if lost:
                    message = f"{lost.message} to {reset_type}; power is still {state} after {wait:g} s"
                    raise RedfishError(message, lost.hint)
                return f"accepted {reset_type}, power is still {state} after {wait:g} s"
            self._sleep(POLL_SECONDS)
        return f"did not answer {reset_type}, and did it" if lost else ""

    def _wait_for_task(self, location: str, deadline: float) -> bool:
        """True once the task is over; False at the deadline. Raises RedfishError if the task failed."""
        path = httpx.URL(self._bmc.url).join(location).raw_path.decode()
        while True:
            try:
                answer = self._http.get_response(path)
            except RedfishError as error:
                if error.status in (404, 410):  # forgotten, as tasks are some time after their end
                    return True
                raise
            task = _json(answer)
            state = task.get("TaskState", "")
            if state in ("Exception", "Killed", "Cancelled", "Interrupted"):
                texts = [message.get("Message", "") for message in task.get("Messages") or []]
                raise RedfishError(
                    f"{self._bmc}: its task ended as {state}: {'; '.join(texts) or 'no reason given'}"
                )
            if state == "Completed" or (answer.status_code != 202 and not state):
                return True
            if self._clock() >= deadline:
                return False
            self._sleep(POLL_SECONDS)


def bmc_of(site: "Site", node: "Node", from_operator: bool = True) -> Bmc:
    """The BMC of a node as the site file describes it, with the password read from its file.

    from_operator: as the operator's machine reaches it; False: as the site's own services do.
    Raises: SitewrightError where the site has no `bmc`, or its password cannot be read.
    """
    if site.bmc is None:
        raise SitewrightError(f"the site {site.name} has no `bmc`", "Add it to the site file.")
    host, port = node.bmc_address, site.bmc.port
    if from_operator:
        host, port = site.operator_endpoint(host, port)
    try:
        password = Path(site.bmc.password_file).read_text().strip()
    except OSError as error:
        raise SitewrightError(
            f"cannot read the BMCs' password from {site.bmc.password_file}: {error.strerror}",
            "bmc.password_file in the site file names it.",
        ) from error
    ca_file = Path(site.bmc.ca_file) if site.bmc.ca_file else None
    return Bmc(node.xname, f"https://{host}:{port}", site.bmc.username, password, ca_file, system=node.xname)


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def power(bmc: Bmc, action: str, wait: float = 60.0, check: bool = False, **parts: Any) -> Outcome:
    """Bring one node's power where `action` (a key of ACTIONS) leads.

    wait:   seconds until the power state must have followed; afterwards the outcome says "accepted …".
    check:  only say what would be done.
    parts:  transport, sleep and clock of `Redfish`, for tests.
    Raises: SitewrightError, from the BMC or for an unknown action.
    """
    if action not in ACTIONS:
        raise SitewrightError(f"no power action {action!r}; there are {', '.join(ACTIONS)}")
    wanted = ACTIONS[action]
    with Redfish(bmc, **parts) as redfish:
        system = redfish.system()
        outcome = Outcome(bmc.name, action, before=system.state, after=system.state)
        steps = _steps(bmc, system.state, action, wanted) if wanted else []
        if check or not steps:
            return replace(outcome, changed=bool(steps), sent=", ".join(steps))
        remarks = [_step(redfish, bmc, system, reset, wait) for reset in steps]
        after = redfish.system().state
    detail = "; ".join(filter(None, remarks))
    return replace(outcome, after=after, changed=True, sent=", ".join(steps), detail=detail)


def _steps(bmc: Bmc, state: PowerState, action: str, wanted: Action) -> list[str]:
    """The ResetTypes to send, in order. Raises RedfishError for a restart of a node that is off."""
    if wanted.needs_on and state == "Off":
        raise _is_off(bmc, wanted.reset)
    if action == "cycle":
        return ["On"] if state == "Off" else [wanted.reset, "On"]
    if state == wanted.leads_to and not wanted.needs_on:
        return []
    return [wanted.reset]


def _step(redfish: Redfish, bmc: Bmc, system: System, reset: str, wait: float) -> str:
    leads_to: PowerState = "Off" if reset in ("ForceOff", "GracefulShutdown") else "On"
    try:
        return redfish.reset(system, reset, leads_to, wait)
    except RedfishError as error:
        # Its power went between our look and our request, or it calls Off what it showed as something else.
        if reset.endswith("Restart") and "InvalidOperationForSystemState" in error.message_id:
            raise _is_off(bmc, reset) from error
        raise


def _is_off(bmc: Bmc, reset: str) -> RedfishError:
    return RedfishError(
        f"{bmc}: the node is off, so {reset} cannot be done", "Ask for `on` (or `running`) instead.", 400
    )


def power_all(
    bmcs: Iterable[Bmc], action: str, limit: int = 16, wait: float = 60.0, check: bool = False, **parts: Any
) -> list[Outcome]:
    """`power` for many nodes, at most `limit` at a time, in the order given; failures are in `error`."""

    def one(bmc: Bmc) -> Outcome:
        try:
            return power(bmc, action, wait, check, **parts)
        except SitewrightError as error:
            return Outcome(bmc.name, action, error=error)

    with ThreadPoolExecutor(max_workers=max(1, limit)) as pool:
        return list(pool.map(one, bmcs))
