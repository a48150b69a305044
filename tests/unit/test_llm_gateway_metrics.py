"""What counts as answered, and what does not."""

import asyncio
import urllib.request
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from modules.gateway.llm_gateway_metrics import OUTCOMES, Counted, serve
from tests.lab.gateway_program import free_port

STREAM = ((b"content-type", b"text/event-stream; charset=utf-8"),)
WORD, DONE, ERROR = b'data: {"choices": []}\n\n', b"data: [DONE]\n\n", b'data: {"error": {}}\n\n'
Step = Callable[[Callable[..., Awaitable[None]], Callable[..., Awaitable[None]]], Awaitable[None]]


def start(status: int, headers: tuple = ()) -> dict:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(content: bytes, more: bool = False) -> dict:
    return {"type": "http.response.body", "body": content, "more_body": more}


def answers(*messages: dict, state: dict | None = None, disconnects: bool = False, raises: bool = False):
    """An application that says this, after it looked whether the client is still there."""

    async def app(scope, receive, send) -> None:
        scope["state"].update(state or {})
        for message in messages:
            await send(message)
        if disconnects:
            await receive()
        if raises:
            raise RuntimeError("the application broke")

    return app


def counted(app, method: str = "POST", kind: str = "http") -> str:
    registry = CollectorRegistry()

    async def receive() -> dict:
        return {"type": "http.disconnect"}

    async def send(message) -> None:
        pass

    scope = {"type": kind, "method": method, "path": "/v1/completions", "headers": [], "state": {}}
    try:
        asyncio.run(Counted(app, registry)(scope, receive, send))
    except RuntimeError as error:
        assert "the application broke" in str(error)
    return generate_latest(registry).decode()


@pytest.mark.parametrize(
    ("app", "outcome"),
    [
        (answers(start(200), body(b"{}")), "answered"),
        (answers(start(200), body(b"{", True), body(b"}")), "answered"),
        (answers(start(200, STREAM), body(WORD, True), body(DONE, True), body(b"")), "answered"),
        (answers(start(200, STREAM), body(WORD + DONE, True), body(b"")), "answered"),
        (answers(start(200, STREAM), body(WORD, True), body(b"")), "cut"),
        (
            answers(start(200, STREAM), body(WORD, True), body(ERROR, True), body(DONE, True), body(b"")),
            "cut",
        ),
        (answers(start(200), body(b"{", True), raises=True), "cut"),
        (answers(start(200, STREAM), body(WORD, True), disconnects=True), "left"),
        (answers(start(200, STREAM), body(WORD + DONE, True), body(b""), disconnects=True), "answered"),
        (answers(start(401), body(b"{}")), "refused"),
        (answers(start(404), body(b"{}")), "refused"),
        (answers(start(429), body(b"{}")), "limited"),
        (answers(start(503), body(b"{}")), "overloaded"),
        (answers(start(500), body(b"{}")), "failed"),
        (answers(raises=True), "failed"),
        (answers(disconnects=True), "left"),
    ],
)
def test_a_request_is_counted_once_by_what_its_user_got(app, outcome):
    text = counted(app)
    assert f'llm_gateway_requests_total{{model="",outcome="{outcome}",team=""}} 1.0' in text
    assert text.count("llm_gateway_requests_total{") == 1
    assert "llm_gateway_open_requests 0.0" in text
    for one in OUTCOMES:
        assert f'llm_gateway_outcomes_total{{outcome="{one}"}} {float(one == outcome)}\n' in text


def test_each_outcome_is_there_before_it_happens():
    """Otherwise its first time is no increase for Prometheus, and no alert fires."""
    registry = CollectorRegistry()
    Counted(answers(), registry)
    assert generate_latest(registry).decode().count("llm_gateway_outcomes_total{") == len(OUTCOMES)


def test_team_and_model_are_those_whose_key_and_name_were_accepted():
    text = counted(answers(start(200), body(b"{}"), state={"team": "climate", "model": "tiny"}))
    assert 'llm_gateway_requests_total{model="tiny",outcome="answered",team="climate"} 1.0' in text
    assert 'llm_gateway_first_byte_seconds_count{model="tiny"} 1.0' in text


def test_what_is_refused_does_not_make_the_gateway_look_quick():
    assert "first_byte_seconds_count{" not in counted(answers(start(401), body(b"{}")))


@pytest.mark.parametrize(("method", "kind"), [("GET", "http"), ("", "lifespan")])
def test_lists_of_models_and_probes_are_not_counted(method, kind):
    assert "llm_gateway_requests_total{" not in counted(answers(start(200), body(b"{}")), method, kind)


def test_the_counts_have_a_port_of_their_own():
    port = free_port()
    serve(answers(), port, lambda: 7.5)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        found = answer.read()
    assert b"llm_gateway_open_requests 0.0" in found
    assert b"llm_gateway_usage_behind_seconds 7.5" in found
