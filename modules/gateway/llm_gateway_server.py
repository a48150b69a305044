"""LiteLLM's proxy behind a door: the few paths clients need, a limit on what is open, and a polite end.

LiteLLM mounts over a hundred paths, some of which ask for no key, and takes orders from headers and query strings. What
is not on the list here never reaches it. Run in the gateway's pod as `python llm_gateway_server.py`, beside
config.yaml, policy.json and the other `llm_gateway_*.py` that the ConfigMap holds; no other module of ours is there.
"""

import json
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Turn = Callable[[], Awaitable[None]]

STARTED, ENDED = "lifespan.startup.complete", "lifespan.shutdown.complete"
HEALTH = ("/health/liveliness", "/health/readiness")
PATHS = {
    **dict.fromkeys(("/v1/models", *HEALTH), "GET"),
    **dict.fromkeys(("/v1/chat/completions", "/v1/completions", "/v1/embeddings"), "POST"),
}
# Everything else a client sends, such as x-litellm-timeout or x-api-key, would be an order to LiteLLM.
REQUEST_HEADERS = frozenset([b"authorization", b"content-length", b"accept", b"host", b"user-agent"])
JSON = (b"content-type", b"application/json")  # LiteLLM also reads forms, which say other things
# They name backends by address, other teams' spending, and limits that are not the team's.
HIDDEN = (b"x-litellm-", b"llm_provider-", b"x-ratelimit-")
SHOWN = b"x-litellm-call-id"  # what a user tells support
DEPLOYMENT, SERVED = b"x-litellm-model-name", b"x-served-model"  # which version answered under an alias
RETRY_SECONDS = b"1"
# A connection that a client keeps ends with the replica, perhaps just when the client asks again: nobody answers that.
CLOSE = (b"connection", b"close")
PERMITS = "sitewright.permits"  # where llm_gateway_auth.py puts them


class Door:
    """An ASGI application that lets through to another one what is on the list.

    limit: requests for models open at once; more are answered with 503 and Retry-After.
    max_body: bytes of a request; longer ones are answered with 413.
    turns: awaited when the application has started and nobody has asked it yet, STARTED, and when it has answered
    everybody, ENDED.
    """

    def __init__(self, app: App, limit: int, max_body: int, turns: Mapping[str, list[Turn]]) -> None:
        self._app, self._limit, self._max_body, self._turns = app, limit, max_body, turns
        self._open = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._at_turns(send))
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif refusal := self._refusal(scope):
            await _answer(send, *refusal)
        elif scope["path"] in HEALTH:
            await self._app(_plain(scope), receive, send)
        else:
            await self._pass(scope, receive, send)

    def _at_turns(self, send: Send) -> Send:
        async def told(message: Message) -> None:
            for turn in self._turns.get(message["type"], ()):
                await turn()
            await send(message)

        return told

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        method = PATHS.get(scope["path"])
        if method is None:
            return 404, f"no such path; there is {', '.join(sorted(set(PATHS) - set(HEALTH)))}"
        if scope["method"] != method:
            return 405, f"{scope['path']} wants {method}"
        if method == "POST":
            length = dict(scope["headers"]).get(b"content-length", b"")
            if not length.isdigit():
                return 411, "Content-Length is needed"
            if int(length) > self._max_body:
                return 413, f"a request has at most {self._max_body:,} bytes"
        if self._open >= self._limit and scope["path"] not in HEALTH:
            return 503, "the gateway has as many requests as it can take; try again"
        return None

    async def _pass(self, scope: Message, receive: Receive, send: Send) -> None:
        self._open += 1
        permits: list[Any] = []  # of llm_gateway_limits.py: what the request has taken of its team's limits
        try:
            await self._app({**_plain(scope), PERMITS: permits}, receive, _tidied(send, permits))
        finally:
            self._open -= 1
            for permit in permits:
                permit.release()


def _plain(scope: Message) -> Message:
    headers = [(name, value) for name, value in scope["headers"] if name.lower() in REQUEST_HEADERS]
    return {**scope, "headers": [*headers, JSON], "query_string": b""}


def _tidied(send: Send, permits: list[Any]) -> Send:
    async def tidied(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*_answer_headers(message["status"], message["headers"]), *_limit_headers(permits)]
            message = {**message, "headers": headers}
        await send(message)

    return tidied


def _limit_headers(permits: list[Any]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for permit in permits for name, value in permit.headers.items()]


def _answer_headers(status: int, headers: Any) -> list[tuple[bytes, bytes]]:
    kept = [
        (name, value)
        for name, value in headers
        if name.lower() == SHOWN or not name.lower().startswith(HIDDEN)
    ]
    deployment = next((value for name, value in headers if name.lower() == DEPLOYMENT), b"")
    if deployment:
        kept.append((SERVED, deployment.partition(b"/")[2]))  # after LiteLLM's name for how it is asked
    if status in (429, 503) and not any(name.lower() == b"retry-after" for name, _ in kept):
        kept.append((b"retry-after", RETRY_SECONDS))
    return [*kept, CLOSE]


async def _answer(send: Send, status: int, message: str) -> None:
    """An error in the form OpenAI's clients understand."""
    body = json.dumps({"error": {"message": message, "type": "gateway_error", "code": str(status)}}).encode()
    headers = [JSON, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": _answer_headers(status, headers)})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    here = Path(__file__).resolve().parent
    os.environ["CONFIG_FILE_PATH"] = str(here / "config.yaml")
    # Without one LiteLLM lets everybody in where its hook is not loaded. Nobody learns this one.
    os.environ["LITELLM_MASTER_KEY"] = f"sk-{secrets.token_urlsafe(32)}"
    import llm_gateway_limits  # type: ignore[import-not-found]
    import llm_gateway_metrics  # type: ignore[import-not-found]
    import llm_gateway_targets  # type: ignore[import-not-found]
    import llm_gateway_usage  # type: ignore[import-not-found]
    import uvicorn

    limits = json.loads((here / "policy.json").read_text(encoding="utf-8"))["limits"]
    llm_gateway_targets.install()
    periods = {team: one["budget_seconds"] for team, one in limits.items() if "token_budget" in one}
    llm_gateway_usage.install(periods)
    llm_gateway_limits.install(llm_gateway_usage.USAGE, limits)
    from litellm.proxy.proxy_server import app  # type: ignore[import-not-found]

    limit, max_body = int(os.environ["GATEWAY_MAX_OPEN"]), int(os.environ["GATEWAY_MAX_BODY"])
    turns = {STARTED: [llm_gateway_usage.begin, llm_gateway_limits.begin], ENDED: [llm_gateway_usage.end]}
    door = Door(app, limit, max_body, turns)
    usage = llm_gateway_usage.USAGE
    uvicorn.run(
        llm_gateway_metrics.serve(door, int(os.environ["GATEWAY_METRICS_PORT"]), usage and usage.behind),
        host=os.environ.get("GATEWAY_HOST", "0.0.0.0"),
        port=int(os.environ["GATEWAY_PORT"]),
        timeout_graceful_shutdown=int(os.environ["GRACEFUL_SHUTDOWN_TIMEOUT"]),
        server_header=False,
        access_log=False,
        ws="none",
    )


if __name__ == "__main__":
    main()
