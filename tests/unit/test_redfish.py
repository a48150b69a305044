"""Redfish as real BMCs speak it: redirects, tasks, odd power states, errors by name."""

import json
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest

from sitewright.errors import SitewrightError
from sitewright.provisioning.redfish import Bmc, Outcome, power, power_all, power_state

SYSTEM = "/redfish/v1/Systems/Node0"
RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"
ALL = ["On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart"]
BMC = Bmc("x1000c0s0b0n0", "https://bmc.test", "root", "canary-password", timeout=1)


class FakeBmc:
    """A BMC with one system. answers: (method, path) → response or function, asked before the usual ones."""

    def __init__(self, state: object = "Off", allowed: list[str] | None = None) -> None:
        self.state = state
        self.allowed = ALL if allowed is None else allowed
        self.answers: dict[tuple[str, str], Callable[[httpx.Request], httpx.Response]] = {}
        self.requests: list[httpx.Request] = []
        self.now = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        own = self.answers.get((request.method, request.url.path))
        return own(request) if own else self.usual(request)

    def usual(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/redfish/v1/Systems":
            return httpx.Response(200, json={"Members": [{"@odata.id": SYSTEM}]})
        if request.url.path == SYSTEM:
            reset = {"target": RESET} | (
                {"ResetType@Redfish.AllowableValues": self.allowed} if self.allowed else {}
            )
            resource = {"PowerState": self.state, "Actions": {"#ComputerSystem.Reset": reset}}
            return httpx.Response(200, json=resource)
        if (request.method, request.url.path) == ("POST", RESET):
            self.state = (
                "Off" if "Off" in self.reset_of(request) or "Shutdown" in self.reset_of(request) else "On"
            )
            return httpx.Response(204)
        return httpx.Response(404, json={"error": {"code": "Base.1.0.GeneralError", "message": "Not found"}})

    @staticmethod
    def reset_of(request: httpx.Request) -> str:
        return json.loads(request.content)["ResetType"]

    @property
    def sent(self) -> list[str]:
        return [self.reset_of(request) for request in self.requests if request.url.path.startswith(RESET)]

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def power(self, action: str, bmc: Bmc = BMC, wait: float = 30, check: bool = False) -> Outcome:
        parts = {"transport": httpx.MockTransport(self), "sleep": self.sleep, "clock": lambda: self.now}
        return power(bmc, action, wait, check, **parts)


def redirect(status: int, location: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(status, headers={"location": location})


# What each action does --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "state", "sent"),
    [
        ("on", "Off", ["On"]),
        ("on", "On", []),
        ("running", "Off", ["On"]),
        ("off", "On", ["ForceOff"]),
        ("off", "Off", []),
        ("shutdown", "On", ["GracefulShutdown"]),
        ("restart", "On", ["GracefulRestart"]),
        ("force-restart", "On", ["ForceRestart"]),
        ("cycle", "On", ["ForceOff", "On"]),
        ("cycle", "Off", ["On"]),
        ("status", "On", []),
    ],
)
def test_an_action_sends_what_it_takes_and_no_more(action: str, state: str, sent: list[str]) -> None:
    bmc = FakeBmc(state)
    outcome = bmc.power(action)
    assert bmc.sent == sent
    assert outcome.changed == bool(sent)
    assert outcome.sent == ", ".join(sent)


def test_check_mode_sends_nothing_and_says_what_would_be_sent() -> None:
    bmc = FakeBmc("Off")
    outcome = bmc.power("on", check=True)
    assert (bmc.sent, outcome.changed, outcome.sent) == ([], True, "On")


def test_an_unknown_action_is_refused_with_the_list() -> None:
    with pytest.raises(SitewrightError, match=r"no power action 'reboot'; there are status, on, off"):
        FakeBmc().power("reboot")


# Redirects ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_get_follows_a_redirect_to_the_same_host(status: int) -> None:
    bmc = FakeBmc("On")
    bmc.answers[("GET", "/redfish/v1/Systems")] = redirect(status, "/redfish/v1/Systems/")
    bmc.answers[("GET", "/redfish/v1/Systems/")] = lambda r: httpx.Response(
        200, json={"Members": [{"@odata.id": SYSTEM}]}
    )
    assert bmc.power("status").after == "On"


@pytest.mark.parametrize("status", [301, 307, 308])
def test_a_post_is_repeated_with_its_body(status: int) -> None:
    bmc = FakeBmc("Off")
    bmc.answers[("POST", RESET)] = redirect(status, f"{RESET}/")
    bmc.answers[("POST", f"{RESET}/")] = lambda request: setattr(bmc, "state", "On") or httpx.Response(204)
    assert bmc.power("on").after == "On"
    assert bmc.sent == ["On", "On"]


def test_a_log_in_that_is_redirected_is_repeated_as_a_post() -> None:
    bmc = FakeBmc("On")
    sessions = "/redfish/v1/SessionService/Sessions"
    bmc.answers[("POST", sessions)] = redirect(308, f"{sessions}/")
    bmc.answers[("POST", f"{sessions}/")] = lambda request: httpx.Response(
        201, headers={"x-auth-token": "t", "location": f"{sessions}/1"}
    )
    bmc.answers[("DELETE", f"{sessions}/1")] = lambda request: httpx.Response(204)
    assert bmc.power("status", replace(BMC, session=True)).after == "On"
    log_in = bmc.requests[1]
    assert json.loads(log_in.content) == {"UserName": "root", "Password": "canary-password"}
    assert bmc.requests[2].headers["x-auth-token"] == "t"
    assert "authorization" not in bmc.requests[2].headers
    assert bmc.requests[-1].method == "DELETE"


@pytest.mark.parametrize("target", ["https://elsewhere.test/redfish/v1/", "http://bmc.test/redfish/v1/"])
@pytest.mark.parametrize("status", [301, 303, 307, 308])
def test_a_log_in_is_never_repeated_elsewhere(status: int, target: str) -> None:
    """The password is in its body. Log-ins are redirected by real BMCs: ansible/ansible#48296."""
    bmc = FakeBmc("On")
    bmc.answers[("POST", "/redfish/v1/SessionService/Sessions")] = redirect(status, target)
    with pytest.raises(SitewrightError) as refused:
        bmc.power("status", replace(BMC, session=True))
    assert target in refused.value.message
    assert "no credentials were sent there" in refused.value.message
    assert [request.url.path for request in bmc.requests] == ["/redfish/v1/SessionService/Sessions"]


def test_303_after_a_post_becomes_a_get() -> None:
    bmc = FakeBmc("Off")
    bmc.answers[("POST", RESET)] = lambda r: (
        setattr(bmc, "state", "On") or redirect(303, "/redfish/v1/Done")(r)
    )
    bmc.answers[("GET", "/redfish/v1/Done")] = lambda request: httpx.Response(200, json={})
    assert bmc.power("on").after == "On"
    assert [(r.method, r.content) for r in bmc.requests if r.url.path == "/redfish/v1/Done"] == [("GET", b"")]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("https://elsewhere.test/redfish/v1/Systems", "another address"),
        ("https://bmc.test:8443/redfish/v1/Systems", "another address"),
        ("http://bmc.test/redfish/v1/Systems", "plain http"),
    ],
)
def test_a_redirect_away_is_refused_by_name_and_nothing_is_sent_there(target: str, why: str) -> None:
    bmc = FakeBmc("On")
    bmc.answers[("GET", "/redfish/v1/Systems")] = redirect(308, target)
    with pytest.raises(SitewrightError) as refused:
        bmc.power("status")
    assert target in refused.value.message
    assert why in refused.value.message
    assert "no credentials were sent" in refused.value.message
    assert {request.url.host for request in bmc.requests} == {"bmc.test"}
    assert len(bmc.requests) == 1


def test_a_302_of_a_post_to_another_path_is_not_followed() -> None:
    bmc = FakeBmc("Off")
    bmc.answers[("POST", RESET)] = redirect(302, "/login.html")
    with pytest.raises(
        SitewrightError, match=r"POST .* was redirected \(302\) to https://bmc.test/login.html"
    ):
        bmc.power("on")


def test_a_redirect_loop_ends() -> None:
    bmc = FakeBmc()
    bmc.answers[("GET", "/redfish/v1/Systems")] = redirect(307, "/redfish/v1/Systems")
    with pytest.raises(SitewrightError, match="redirected more than 5 times"):
        bmc.power("status")


def test_a_bmc_at_plain_http_is_refused_before_anything_is_sent() -> None:
    bmc = FakeBmc()
    with pytest.raises(SitewrightError, match="only https is spoken"):
        bmc.power("status", replace(BMC, url="http://bmc.test"))
    assert bmc.requests == []


# Tasks, lists, states -----------------------------------------------------------------------------


def with_task(bmc: FakeBmc, answers: list[httpx.Response], then: str) -> None:
    """The reset answers 202 with a task that answers one of `answers` after the other."""
    bmc.answers[("POST", RESET)] = lambda request: httpx.Response(
        202, headers={"location": "/redfish/v1/Tasks/7"}
    )

    def task(request: httpx.Request) -> httpx.Response:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if len(answers) == 1:
            bmc.state = then
        return answer

    bmc.answers[("GET", "/redfish/v1/Tasks/7")] = task


def test_a_task_is_followed_to_its_end() -> None:
    bmc = FakeBmc("Off")
    running = httpx.Response(202, json={"TaskState": "Running"})
    with_task(bmc, [running, running, httpx.Response(200, json={"TaskState": "Completed"})], then="On")
    outcome = bmc.power("on")
    assert (outcome.after, outcome.detail) == ("On", "")
    assert bmc.now >= 2


def test_a_task_that_takes_too_long_is_reported_as_accepted_not_as_a_failure() -> None:
    bmc = FakeBmc("Off")
    with_task(bmc, [httpx.Response(202, json={"TaskState": "Running"})], then="Off")
    outcome = bmc.power("on", wait=5)
    assert outcome.error is None
    assert outcome.detail == "accepted On, the BMC's task still runs after 5 s"


def test_a_task_that_fails_fails_with_the_bmcs_reason() -> None:
    bmc = FakeBmc("Off")
    failed = {"TaskState": "Exception", "Messages": [{"Message": "no power budget left"}]}
    with_task(bmc, [httpx.Response(200, json=failed)], then="Off")
    with pytest.raises(SitewrightError, match="ended as Exception: no power budget left"):
        bmc.power("on")


@pytest.mark.parametrize("status", [404, 410])
def test_a_task_that_is_gone_is_over(status: int) -> None:
    """BMCs forget tasks that ended; whether the reset did its work is told by the power state.

    A reset that worked was called a failure elsewhere: DMTF/Redfishtool#55, DMTF/Redfish-Tacklebox#82.
    """
    bmc = FakeBmc("Off")
    with_task(bmc, [httpx.Response(202, json={"TaskState": "Running"}), httpx.Response(status)], then="On")
    outcome = bmc.power("on")
    assert (outcome.after, outcome.detail) == ("On", "")


def test_power_that_follows_later_is_waited_for() -> None:
    bmc = FakeBmc("Off")
    states = iter(["Off", "PoweringOn", None, "on"])
    bmc.answers[("POST", RESET)] = lambda request: httpx.Response(204)

    def system(request: httpx.Request) -> httpx.Response:
        bmc.state = next(states, "on")
        return bmc.usual(request)

    bmc.answers[("GET", SYSTEM)] = system
    assert bmc.power("on").after == "On"


def test_without_a_list_the_asked_reset_is_tried() -> None:
    bmc = FakeBmc("On", allowed=[])
    bmc.power("force-restart")
    assert bmc.sent == ["ForceRestart"]


def test_a_list_in_the_action_info_counts() -> None:
    bmc = FakeBmc("On")
    info = "/redfish/v1/Systems/Node0/ResetActionInfo"
    reset = {"target": RESET, "@Redfish.ActionInfo": info}
    resource = {"PowerState": "On", "Actions": {"#ComputerSystem.Reset": reset}}
    parameters = [{"Name": "ResetType", "AllowableValues": ["On", "ForceOff"]}]
    bmc.answers[("GET", SYSTEM)] = lambda request: httpx.Response(200, json=resource)
    bmc.answers[("GET", info)] = lambda request: httpx.Response(200, json={"Parameters": parameters})
    with pytest.raises(SitewrightError, match="does not take GracefulRestart; it takes On, ForceOff"):
        bmc.power("restart")
    assert bmc.sent == []


def test_a_reset_that_is_not_on_the_list_is_named_before_the_post_and_never_made_harder() -> None:
    listed = ["On", "ForceOff", "GracefulShutdown", "ForceRestart", "Nmi", "ForceOn", "PushPowerButton"]
    bmc = FakeBmc("On", allowed=listed)
    with pytest.raises(SitewrightError) as refused:
        bmc.power("restart")
    assert f"does not take GracefulRestart; it takes {', '.join(listed)}" in refused.value.message
    assert bmc.sent == []


@pytest.mark.parametrize(
    ("value", "state"),
    [
        ("On", "On"),
        ("on", "On"),
        ("OFF", "Off"),
        ("Starting", "unknown"),
        (None, "unknown"),
        ("", "unknown"),
        (7, "unknown"),
    ],
)
def test_only_on_and_off_are_states(value: object, state: str) -> None:
    assert power_state(value) == state


def test_a_node_in_an_unknown_state_is_switched_on_not_taken_for_on() -> None:
    bmc = FakeBmc("Starting")
    assert bmc.power("on").before == "unknown"
    assert bmc.sent == ["On"]


@pytest.mark.parametrize("action", ["restart", "force-restart"])
def test_a_restart_of_a_node_that_is_off_says_so_and_sends_nothing(action: str) -> None:
    bmc = FakeBmc("Off")
    with pytest.raises(SitewrightError, match="the node is off"):
        bmc.power(action)
    assert bmc.sent == []


def test_a_bmc_that_refuses_a_restart_for_its_state_is_read_the_same_way() -> None:
    bmc = FakeBmc("unknown")
    info = [{"MessageId": "iLO.2.14.InvalidOperationForSystemState", "Message": "bad state"}]
    bmc.answers[("POST", RESET)] = lambda request: httpx.Response(
        400, json={"error": {"@Message.ExtendedInfo": info}}
    )
    with pytest.raises(SitewrightError, match="the node is off, so ForceRestart cannot be done"):
        bmc.power("force-restart")


# Errors -----------------------------------------------------------------------------------------------


def test_a_wrong_password_names_bmc_user_and_what_to_do_but_never_the_password() -> None:
    bmc = FakeBmc()
    bmc.answers[("GET", "/redfish/v1/Systems")] = lambda request: httpx.Response(401)
    with pytest.raises(SitewrightError) as refused:
        bmc.power("status")
    text = str(refused.value)
    assert "x1000c0s0b0n0" in text
    assert "https://bmc.test" in text
    assert "'root'" in text
    assert "bmc.password_file" in text
    assert "canary" not in text
    assert len(bmc.requests) == 1, "a wrong password is tried once: accounts get locked"


def test_the_password_is_not_in_the_text_of_a_bmc() -> None:
    assert "canary" not in f"{BMC} {BMC!r}"


def test_a_busy_bmc_is_asked_again_but_a_post_is_never_repeated() -> None:
    bmc = FakeBmc("Off")
    left = [httpx.Response(503), httpx.Response(503)]
    bmc.answers[("GET", "/redfish/v1/Systems")] = lambda r: left.pop() if left else bmc.usual(r)
    bmc.answers[("POST", RESET)] = lambda request: httpx.Response(503, text="busy")
    with pytest.raises(SitewrightError, match="HTTP 503: busy"):
        bmc.power("on")
    assert bmc.sent == ["On"]


@pytest.mark.parametrize("fault", [httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")])
@pytest.mark.parametrize(("action", "state", "sent"), [("off", "On", "ForceOff"), ("on", "Off", "On")])
def test_a_bmc_that_does_it_and_does_not_answer_is_looked_at(
    fault: Exception, action: str, state: str, sent: str
) -> None:
    bmc = FakeBmc(state)

    def late(request: httpx.Request) -> httpx.Response:
        bmc.usual(request)
        raise fault

    bmc.answers[("POST", RESET)] = late
    outcome = bmc.power(action)
    assert (outcome.sent, outcome.detail) == (sent, f"did not answer {sent}, and did it")
    assert bmc.sent == [sent], "never twice"


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("off", "no answer within 1 s to ForceOff; power is still On after 30 s"),
        ("force-restart", "no answer within 1 s"),
    ],
)
def test_a_bmc_that_neither_does_it_nor_answers_failed(action: str, said: str) -> None:
    bmc = FakeBmc("On")

    def never(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow")

    bmc.answers[("POST", RESET)] = never
    with pytest.raises(SitewrightError, match=re.escape(said)):
        bmc.power(action)
    assert len(bmc.sent) == 1


def caused(cause: Exception) -> httpx.ConnectError:
    error = httpx.ConnectError("handshake")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (httpx.ReadTimeout("slow"), "no answer within 1 s"),
        (httpx.ConnectError("[Errno 111] Connection refused"), "cannot be reached: [Errno 111]"),
        (httpx.RemoteProtocolError("cut"), "cannot be reached: cut"),
        (caused(ssl.SSLEOFError(8, "closed (EOF)")), "cannot be reached: handshake"),
        (caused(ssl.SSLZeroReturnError(6, "closed (EOF)")), "cannot be reached: handshake"),
    ],
)
def test_a_bmc_that_does_not_answer_is_named_with_the_reason(fault: Exception, said: str) -> None:
    bmc = FakeBmc()

    def fail(request: httpx.Request) -> httpx.Response:
        raise fault

    bmc.answers[("GET", "/redfish/v1/Systems")] = fail
    with pytest.raises(SitewrightError) as failed:
        bmc.power("status")
    assert said in failed.value.message
    assert "BMC of x1000c0s0b0n0 (https://bmc.test)" in failed.value.message


def test_an_unknown_system_is_named_with_those_there_are() -> None:
    with pytest.raises(SitewrightError, match="has no system 'x1000c0s0b0n3'; it has Node0"):
        FakeBmc().power("status", replace(BMC, system="x1000c0s0b0n3"))


def test_node0_of_an_ex_blade_is_found_by_the_nodes_xname() -> None:
    assert FakeBmc("On").power("status", replace(BMC, system="x1000c0s0b0n0")).after == "On"


def test_several_systems_and_no_choice_is_an_error() -> None:
    bmc = FakeBmc()
    members = [{"@odata.id": SYSTEM}, {"@odata.id": f"{SYSTEM[:-1]}1"}]
    bmc.answers[("GET", "/redfish/v1/Systems")] = lambda request: httpx.Response(
        200, json={"Members": members}
    )
    with pytest.raises(SitewrightError, match="has 2 systems: Node0, Node1"):
        bmc.power("status")


def test_one_node_that_fails_does_not_stop_the_others() -> None:
    good, lock, most = FakeBmc("Off"), threading.Lock(), [0, 0]

    def answer(request: httpx.Request) -> httpx.Response:
        with lock:
            most[0] += 1
            most[1] = max(most)
        try:
            return httpx.Response(401) if request.url.host == "bad.test" else good(request)
        finally:
            with lock:
                most[0] -= 1

    bmcs = [replace(BMC, name=name, url=f"https://{name}.test") for name in ("a", "bad", "c", "d")]
    outcomes = power_all(bmcs, "on", limit=2, wait=1, transport=httpx.MockTransport(answer))
    assert [outcome.name for outcome in outcomes] == ["a", "bad", "c", "d"]
    assert [outcome.error is None for outcome in outcomes] == [True, False, True, True]
    assert most[1] <= 2
