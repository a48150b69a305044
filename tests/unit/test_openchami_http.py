"""What is tried again, what is not, and what is told of many requests of which some failed."""

import httpx
import pytest

from sitewright.errors import SitewrightError
from sitewright.provisioning.openchami_http import TRIES, Http, Services, for_each

SERVICES = Services("http://smd", "http://bss", "http://ci", "a.jwt")


class Service:
    """Answers one after the other; an exception is what happens to the connection. The last one stays."""

    def __init__(self, *answers) -> None:
        self.answers, self.asked = list(answers), []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, json={"status": answer})


def http(service: Service, **more) -> Http:
    return Http(SERVICES, transport=httpx.MockTransport(service), pause=0.001, **more)


@pytest.mark.parametrize("trouble", [500, 502, 503, httpx.ReadTimeout("slow"), httpx.ConnectError("refused")])
def test_what_may_pass_is_tried_again(trouble):
    service = Service(trouble, trouble, 200)
    assert http(service).call("smd", "GET", "/x").status_code == 200
    assert len(service.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_a_refusal_is_not_asked_for_again(status):
    service = Service(status)
    with pytest.raises(SitewrightError, match=f"bss: PUT http://bss/boot: {status}"):
        http(service).call("bss", "PUT", "/boot", {})
    assert len(service.asked) == 1


@pytest.mark.parametrize(("trouble", "says"), [(503, "503"), (httpx.ConnectError("refused"), "no answer")])
def test_what_does_not_pass_is_told_after_some_tries(trouble, says):
    service = Service(trouble)
    with pytest.raises(SitewrightError, match=says):
        http(service).call("smd", "GET", "/x")
    assert len(service.asked) == TRIES


def test_what_a_lost_answer_had_made_already_is_no_conflict():
    service = Service(httpx.ReadTimeout("lost"), 409)
    assert http(service).call("smd", "POST", "/groups", {}).status_code == 409
    with pytest.raises(SitewrightError, match="409"):
        http(Service(409)).call("smd", "POST", "/groups", {})


def test_a_check_writes_nothing():
    service = Service(200)
    http(service, check=True).write("smd", "POST", "/groups", {})
    assert service.asked == []


def test_the_token_goes_along_and_into_no_message():
    service = Service(403)
    with pytest.raises(SitewrightError) as refused:
        http(service).call("smd", "GET", "/x")
    assert service.asked[0].headers["authorization"] == "Bearer a.jwt"
    assert "a.jwt" not in str(refused.value)


def test_of_many_those_that_are_done_and_not_done_are_named():
    done = []

    def work(number: int) -> None:
        if number % 3 == 0:
            raise SitewrightError(f"{number} is not to be had")
        done.append(number)

    things = {f"x1000c0s{number}b0n0": number for number in range(8)}
    with pytest.raises(SitewrightError) as told:
        for_each("endpoints", things, work)
    assert "not done for x1000c0s[0,3,6]b0n0, done for x1000c0s[1-2,4-5,7]b0n0" in told.value.message
    assert "0 is not to be had" in told.value.message
    assert sorted(done) == [1, 2, 4, 5, 7]
