"""What users got from the gateway, for Prometheus: the only place that sees the requests no model ever saw.

Mounted beside llm_gateway_server.py. `llm_gateway_requests_total` counts ended requests by team, model and outcome:

    answered    whole, streams to their `[DONE]`
    refused     4xx: a key, a model or a parameter
    limited     429: the team has used up what it may
    overloaded  503: the gateway, or all targets of the model, had enough to do
    failed      any other 5xx
    cut         a stream that ended before its end
    left        the client went first

`llm_gateway_outcomes_total` counts them by outcome alone, and is there from the start with 0. Alerts read it: of a
count that appears with 1, Prometheus sees no increase, so the first failure of each team and model would be nobody's.
"""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

OUTCOMES = ("answered", "refused", "limited", "overloaded", "failed", "cut", "left")
SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
TEAM, MODEL = "team", "model"  # in the request's state, where its key and its model were accepted
END, ERROR = b"data: [DONE]", b'data: {"error"'


class Counted:
    """An ASGI application that counts what another one answers to requests for models."""

    def __init__(self, app: App, registry: CollectorRegistry) -> None:
        self._app = app
        self._ended = Counter(
            "llm_gateway_requests", "Ended requests", [TEAM, MODEL, "outcome"], registry=registry
        )
        self._outcomes = Counter(
            "llm_gateway_outcomes", "Ended requests of all teams", ["outcome"], registry=registry
        )
        for outcome in OUTCOMES:
            self._outcomes.labels(outcome)
        self._first = Histogram(
            "llm_gateway_first_byte_seconds",
            "From the request to the first byte of its answer",
            [MODEL],
            buckets=SECONDS,
            registry=registry,
        )
        self._open = Gauge("llm_gateway_open_requests", "Requests being answered", registry=registry)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["state"] = state = {**scope.get("state", {})}
        answer = Answer(receive, send)
        self._open.inc()
        try:
            await self._app(scope, answer.receive, answer.send)
        finally:
            self._open.dec()
            team, model = state.get(TEAM, ""), state.get(MODEL, "")
            self._ended.labels(team, model, answer.outcome).inc()
            self._outcomes.labels(answer.outcome).inc()
            if answer.first is not None and answer.outcome != "refused":
                self._first.labels(model).observe(answer.first)


class Answer:
    """One answer as it goes out. first: seconds to its first byte."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._began = time.monotonic()
        self._status, self._stream, self._whole, self._broken, self._gone = 0, False, False, False, False
        self.first: float | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        self._gone |= message["type"] == "http.disconnect" and not self._whole
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
            self._stream = any(kind.startswith(b"text/event-stream") for kind in kinds)
        else:
            self._body(message)
        await self._send(message)

    def _body(self, message: Message) -> None:
        content = message.get("body", b"")
        if content and self.first is None:
            self.first = time.monotonic() - self._began
        if self._stream:
            self._broken |= content.startswith(ERROR)
            self._whole |= END in content
        else:
            self._whole |= not message.get("more_body", False)

    @property
    def outcome(self) -> str:
        if 400 <= self._status < 500:
            return "limited" if self._status == 429 else "refused"
        if self._status >= 500:
            return "overloaded" if self._status == 503 else "failed"
        if self._whole and not self._broken:
            return "answered"
        if self._gone:
            return "left"
        return "cut" if self._status else "failed"


def serve(app: App, port: int, behind: Callable[[], float] | None = None) -> App:
    """What counts `app`, and says so at `port` under /metrics, apart from the address of users.

    behind: seconds since what teams use was written last, where it is written.
    """
    registry = CollectorRegistry()
    if behind is not None:
        written = "Since what teams use was written to the database, or nothing was left to write"
        Gauge("llm_gateway_usage_behind_seconds", written, registry=registry).set_function(behind)
    start_http_server(port, registry=registry)
    return Counted(app, registry)
