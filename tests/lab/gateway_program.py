"""The gateway as a local process, and a stand-in for the models behind it."""

import asyncio
import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from modules.gateway.llm_gateway import render
from modules.gateway.llm_gateway_spec import LlmGatewaySpec

KEY, SMALL_KEY, BLOCKED_KEY = "sk-of-team-a-0123456789", "sk-of-small-0123456789", "sk-of-paused-0123456789"
START_SECONDS = 300  # as long as its pod may take; 12 on two idle cores
WORDS = [f"word{place} " for place in range(40)]
USED, STREAM_USED = (
    2,
    1007,
)  # tokens of an answer as the stand-in counts them; by its words a stream has fewer


class StandIn:
    """Not vLLM: the paths, forms and status codes of its OpenAI server. What it does is in the served name.

    `ok` answers, `ok-too` as well, `busy` answers 503 as vLLM with --max-num-queued-reqs, `slow` takes 3 s to stream,
    `late` takes 3 s without one, `silent` stops after its first word, `long` is a prompt that does not fit. `asked` has
    all requests: path, served name, parameters, headers. full: whatever is asked for meets a full queue.
    """

    def __init__(self) -> None:
        self.full = False
        self.asked: list[tuple[str, str, dict, dict]] = []
        self.app = FastAPI()
        self.app.add_api_route("/{path:path}", self.answer, methods=["GET", "POST"])

    async def answer(self, path: str, request: Request) -> Response:
        body = json.loads(await request.body() or b"{}")
        served = str(body.get("model", ""))
        self.asked.append((path, served, body, dict(request.headers)))
        if served == "long":
            error = {
                "message": "maximum context length is 512 tokens",
                "type": "BadRequestError",
                "code": 400,
            }
            return JSONResponse({"error": error}, status_code=400)
        if served == "busy" or self.full:
            error = {"message": "too many queued requests", "type": "ServiceUnavailable", "code": 503}
            return JSONResponse({"error": error}, status_code=503)
        if path == "v1/embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            return JSONResponse({"object": "list", "model": served, "data": data, "usage": usage})
        if body.get("stream"):
            pause = 0.075 if served == "slow" else 0.0
            usage = (body.get("stream_options") or {}).get("include_usage") is True
            return StreamingResponse(_events(path, served, pause, usage), media_type="text/event-stream")
        if served == "late":
            await asyncio.sleep(3)
        choice = {"index": 0, "finish_reason": "stop", "text": "hello"}
        kind = "text_completion"
        if path == "v1/chat/completions":
            kind = "chat.completion"
            choice = {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "hello"},
            }
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": USED}
        return JSONResponse(
            {"id": "x", "object": kind, "created": 1, "model": served, "choices": [choice], "usage": usage}
        )


async def _events(path: str, served: str, pause: float, usage: bool):
    chat = path == "v1/chat/completions"
    kind = "chat.completion.chunk" if chat else "text_completion"

    def event(**more) -> str:
        made = {"id": "x", "object": kind, "created": 1, "model": served, "choices": [], **more}
        return f"data: {json.dumps(made)}\n\n"

    for place, word in enumerate(WORDS):
        text = {"delta": {"role": "assistant", "content": word}} if chat else {"text": word}
        end = "stop" if place == len(WORDS) - 1 else None
        yield event(choices=[{"index": 0, "finish_reason": end, **text}])
        await asyncio.sleep(60 if served == "silent" else pause)
    if usage:  # vLLM's chunk with include_usage: behind the last word, without a choice
        counted = {"prompt_tokens": 7, "completion_tokens": STREAM_USED - 7, "total_tokens": STREAM_USED}
        yield event(usage=counted)
    yield "data: [DONE]\n\n"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(there: Callable[[], bool], what: str, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until, f"{what} did not come within {seconds} s"
        time.sleep(0.05)


class Gateway:
    """The gateway's container as a local process: command, settings, variables and keys of the manifests.

    changed: variables that are others here than in a pod.
    """

    def __init__(self, spec: LlmGatewaySpec, place: Path, changed: dict[str, str] | None = None) -> None:
        manifests = render(spec)
        settings = next(one for one in manifests if one["kind"] == "ConfigMap")["data"]
        container = manifests[-1]["spec"]["template"]["spec"]["containers"][0]
        self.keys, self.port, self.log = place / "keys", free_port(), place / "log"
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=60)
        (place / "settings").mkdir()
        for name, text in settings.items():
            (place / "settings" / name).write_text(text)
        self.write_keys({"team-a": KEY, "small": SMALL_KEY, "paused": BLOCKED_KEY}, {"paused": "any"})
        variables = {one["name"]: one["value"] for one in container["env"]}
        variables |= {
            "GATEWAY_PORT": str(self.port),
            "GATEWAY_METRICS_PORT": str(free_port()),
            "GATEWAY_KEYS": str(self.keys),
            "HOME": str(place),
            **(changed or {}),
        }
        self.process = subprocess.Popen(
            [container["command"][0], str(place / "settings" / Path(container["command"][1]).name)],
            env={"PATH": "/usr/bin:/bin", **variables},
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )
        started = time.monotonic()
        try:
            wait_for(self._ready, "the gateway", START_SECONDS)
        except BaseException:
            self.stop()
            raise
        print(f"\ngateway ready after {time.monotonic() - started:.1f} s")

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return self.client.get("/health/readiness", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def write_keys(self, active: dict[str, str], blocked: dict[str, str]) -> None:
        """As the kubelet does: a new directory, then the link to it is swapped."""
        for name, entries in (("active", active), ("blocked", blocked)):
            mount = self.keys / name
            fresh = mount / f"..{time.monotonic_ns()}"
            fresh.mkdir(parents=True)
            for entry, key in entries.items():
                (fresh / entry).write_text(key + "\n")
            (mount / "..data_tmp").symlink_to(fresh.name)
            (mount / "..data_tmp").rename(mount / "..data")

    def post(self, path: str, body: dict, key: str | None = KEY, **more) -> httpx.Response:
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **more.pop("headers", {})}
        return self.client.post(path, json=body, headers=headers, **more)

    def chat(self, model: str = "tiny", key: str | None = KEY, **more) -> httpx.Response:
        return self.post("/v1/chat/completions", chat(model) | more, key)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        self.client.close()


def chat(model: str) -> dict:
    return {"model": model, "messages": [{"role": "user", "content": "Say hello."}]}


def gateway_spec(base: str, python: str) -> LlmGatewaySpec:
    def model(name: str, *targets: tuple[str, int], **more) -> dict:
        made = [{"api_base": base, "served_name": served, "weight": weight} for served, weight in targets]
        return {"name": name, "targets": made, **more}

    return LlmGatewaySpec.model_validate(
        {
            "image": "i",
            "python": python,
            "pool": "svc",
            "total_seconds": 30,
            "stall_seconds": 2,
            "drain_timeout": 20,
            "max_open": 12,
            "teams": [{"name": "small", "models": ["canary"]}],
            "models": [
                model("tiny", ("ok", 1)),
                model("canary", ("ok", 9), ("ok-too", 1)),
                *(model(f"retried-{place}", ("busy", 1), ("ok", 1)) for place in range(20)),
                model("overloaded", ("busy", 1)),
                model("replaced", ("busy", 1), fallbacks=["tiny"]),
                model("slow", ("slow", 1)),
                model("silent", ("silent", 1)),
            ],
        }
    )
