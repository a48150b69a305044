"""The retrieval service as a local process, its Python environment, and a stand-in for the models it asks."""

import asyncio
import json
import subprocess
import threading
import time
from pathlib import Path

import httpx
import uvicorn
from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from modules.retrieval.retrieval import render
from modules.retrieval.retrieval_spec import RetrievalSpec
from sitewright.retrieval import build, documents, versions
from sitewright.site.files import REPOSITORY
from sitewright.tuning.findings import Findings
from tests.lab.gateway_program import WORDS, StandIn, free_port, wait_for

EXAMPLE = REPOSITORY / "docs/examples/retrieval"
LIMIT, SMALL_LIMIT = 2000, 120  # tokens of the stand-in's models; a word is a token
RETRY_AFTER = "7"


class Models(StandIn):
    """vLLM's `/tokenize` as well: a word is a token.

    Also served: `small` takes few tokens, `limited` says 429, `other` has no `/tokenize`, and `empty-end` ends a stream
    as vLLM does, with a chunk of its own that has no text. `hanging` never answers; `left` counts who gave up on it.
    """

    left = 0

    async def answer(self, path: str, request: Request) -> Response:
        body = json.loads(await request.body() or b"{}")
        served = str(body.get("model", ""))
        if path == "tokenize" and served == "other":
            return JSONResponse({"detail": "Not Found"}, 404)
        if path == "tokenize":
            limit = SMALL_LIMIT if served == "small" else LIMIT
            return JSONResponse({"count": words(body["messages"]), "max_model_len": limit, "tokens": []})
        if served == "limited":
            error = {"error": {"message": "slower, please", "type": "rate_limit", "code": 429}}
            return JSONResponse(error, 429, {"retry-after": RETRY_AFTER})
        if served == "hanging":
            while not await request.is_disconnected():
                await asyncio.sleep(0.05)
            self.left += 1
        if served == "empty-end" and body.get("stream"):
            return StreamingResponse(_events(), media_type="text/event-stream")
        return await super().answer(path, request)


async def _events():
    for text, end in [*((word, None) for word in WORDS), ("", "stop")]:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": end}
        event = {
            "id": "x",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }
        yield f"data: {json.dumps(event)}\n\n"
    yield "data: [DONE]\n\n"


def words(messages: list[dict]) -> int:
    return sum(len(message["content"].split()) for message in messages)


class Serving:
    """An application on a port of its own, in a thread."""

    def __init__(self, app) -> None:
        port = free_port()
        self.server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_for(lambda: self.server.started, "the stand-in")
        self.url = f"http://127.0.0.1:{port}/v1"

    def stop(self) -> None:
        self.server.force_exit = self.server.should_exit = True
        self.thread.join(10)


class Program:
    """The container as a local process: command, files and variables of the manifests."""

    def __init__(self, spec: RetrievalSpec, shared: Path, place: Path) -> None:
        manifests = render(spec)
        data = next(one for one in manifests if one["kind"] == "ConfigMap")["data"]
        pod = manifests[-1]["spec"]["template"]["spec"]
        [volume] = [one for one in pod["volumes"] if one["name"] == "settings"]
        for item in volume["configMap"]["items"]:
            path = place / "settings" / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(data[item["key"]])
        container, port = pod["containers"][0], free_port()
        variables = {one["name"]: one["value"] for one in container["env"]}
        variables |= {
            "RETRIEVAL_PORT": str(port),
            "RETRIEVAL_ROOT": str(shared / versions.DIRECTORY),
            "RETRIEVAL_SETTINGS": str(place / "settings/settings.json"),
            "PYTHONPATH": str(place / "settings"),
            "HOME": str(place),
        }
        self.log, self.url = place / "log", f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=60)
        self.process = subprocess.Popen(
            container["command"],
            cwd=place,
            env={"PATH": "/usr/bin:/bin", **variables},
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )
        started = time.monotonic()
        try:
            wait_for(self._ready, "the retrieval service")
        except BaseException:
            self.stop()
            raise
        print(f"\nretrieval ready after {time.monotonic() - started:.1f} s")

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return self.client.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def state(self, collection: str = "manuals") -> dict:
        return self.client.get("/health/ready").json()[collection]

    def chat(self, question: str, model: str = "ok-with-manuals", **more) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": question}], **more}
        return self.client.post("/v1/chat/completions", json=body)

    def embed(self, given, **more) -> httpx.Response:
        return self.client.post("/v1/embeddings", json={"model": "embeddings", "input": given, **more})

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        self.client.close()


def spec(base: str, python: Path, *served: str, **more) -> RetrievalSpec:
    """A model `<served>-with-manuals` for each name of the stand-in."""
    models = [
        {"name": f"{name}-with-manuals", "collection": "manuals", "model": name, "api_base": base, "top_k": 3}
        for name in served
    ]
    given = {"image": "i", "python": str(python), "pool": "svc", "drain_timeout": 20, "models": models}
    return RetrievalSpec.model_validate(given | more)


def built(shared: Path, python: Path, source: Path = EXAMPLE / "manuals", length: int = 400) -> str:
    """Name of a version of the collection `manuals` with these documents."""
    findings = Findings()
    found = documents.read(source, findings)
    assert not findings.total("error"), findings.lines()
    version, _ = build.build(build.plan(found, length, 60), versions.place(shared, "manuals"), python)
    return version.name


def wait_for_version(program: Program, name: str) -> None:
    wait_for(lambda: program.state()["version"] == name, f"version {name}", 60)
