"""How the gateway reaches replicas behind a Service."""

import asyncio

import httpx
import pytest

from modules.gateway.llm_gateway_targets import CONNECT_SECONDS, CONNECT_TRIES, one_connection_per_request


class Replicas:
    """A transport's handler that fails as told, then answers; it remembers what it was asked."""

    def __init__(self, *faults: Exception) -> None:
        self.faults, self.asked = list(faults), []

    async def __call__(self, transport, request) -> httpx.Response:
        self.asked.append((request.headers.get("connection"), request.extensions["timeout"]))
        if self.faults:
            raise self.faults.pop(0)
        return httpx.Response(200)


def ask(replicas: Replicas, **extensions) -> httpx.Response:
    request = httpx.Request("POST", "http://tiny/v1/completions", json={}, extensions=extensions)
    return asyncio.run(one_connection_per_request(replicas)(None, request))


def test_no_connection_is_kept_and_none_is_waited_for_long():
    replicas = Replicas()
    ask(replicas, timeout={"connect": 3600.0, "read": 300.0})
    ask(replicas, timeout={"connect": 1.0})
    ask(replicas)
    assert replicas.asked == [
        ("close", {"connect": CONNECT_SECONDS, "read": 300.0}),
        ("close", {"connect": 1.0}),
        ("close", {"connect": CONNECT_SECONDS}),
    ]


@pytest.mark.parametrize("fault", [httpx.ConnectTimeout, httpx.ConnectError])
def test_a_replica_that_takes_no_connection_is_passed_over(fault):
    replicas = Replicas(*[fault("no") for _ in range(CONNECT_TRIES - 1)])
    assert ask(replicas).status_code == 200
    with pytest.raises(fault):
        ask(Replicas(*[fault("no") for _ in range(CONNECT_TRIES)]))


def test_a_request_that_may_have_been_answered_is_not_repeated_here():
    replicas = Replicas(httpx.ReadTimeout("silent"))
    with pytest.raises(httpx.ReadTimeout):
        ask(replicas)
    assert len(replicas.asked) == 1
