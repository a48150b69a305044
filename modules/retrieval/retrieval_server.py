"""Embeddings, and models that look things up first: what runs in the pods of the retrieval service.

    GET  /v1/models, /health/live, /health/ready
    POST /v1/embeddings           vectors of texts
    POST /v1/chat/completions     for a model named like `tiny-with-manuals`: passages of the collection `manuals` go
                                  into the question, which `tiny` answers; the answer comes with the sources

Run as `python -m modules.retrieval.retrieval_server` with RETRIEVAL_SETTINGS (a JSON file that
modules/retrieval/retrieval.py writes), RETRIEVAL_ROOT (directory of collections), RETRIEVAL_PORT and RETRIEVAL_DRAIN
(seconds open streams may take).
"""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from modules.retrieval import retrieval_embeddings_api as embeddings_api
from modules.retrieval.retrieval_collections import Collection
from modules.retrieval.retrieval_embeddings import DIMENSIONS, Embedder
from modules.retrieval.retrieval_prompt import Messages, Refused, Size, fitted, question_of
from modules.retrieval.retrieval_upstream import EXTRA, Failed, Upstream, error_body, events, whole

LOOK_SECONDS = 1.0  # between two looks at which version is current
CONNECT_SECONDS = 5.0
MOST_BODY = 16 * 2**20  # bytes; the gateway lets no more through
JSON = {"content-type": "application/json"}
T = TypeVar("T")


@dataclass(frozen=True)
class Model:
    """What is asked for under one name. top: passages; reserve: tokens kept for the answer."""

    name: str
    collection: Collection
    upstream: Upstream
    base: str
    top: int
    reserve: int


class Service:
    """settings: as modules/retrieval/retrieval.py writes them; root: directory of the collections."""

    def __init__(self, settings: dict[str, Any], root: Path) -> None:
        self.embedder = Embedder()
        self.embeddings: str = settings["embeddings"]
        # No connection is kept: each request may go to another replica, and none meets one that just closed.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        self.client = httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False)
        self.collections = {
            name: Collection(root / name, self.embedder)
            for name in sorted({one["collection"] for one in settings["models"]})
        }
        self.models = {one["name"]: self._model(one) for one in settings["models"]}

    def _model(self, one: dict[str, Any]) -> Model:
        upstream = Upstream(self.client, one["api_base"], one["model"])
        collection = self.collections[one["collection"]]
        return Model(one["name"], collection, upstream, one["model"], one["top_k"], one["answer_tokens"])

    async def follow(self) -> None:
        """Looks which versions are current, until it is cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        for collection in self.collections.values():
            collection.look()

    async def embed(self, request: Request) -> Response:
        body = await _body(request, [self.embeddings])
        made = await asyncio.to_thread(embeddings_api.answer, body, self.embedder, DIMENSIONS)
        return JSONResponse(made)

    async def chat(self, request: Request) -> Response:
        body = await _body(request, list(self.models))
        model = self.models[body["model"]]
        question = question_of(body.get("messages"))
        version = model.collection.version
        if version is None:
            raise _unavailable(
                f"{model.name}: {model.collection.problem}; `sitewright retrieval use` names one"
            )
        found = await asyncio.to_thread(version.index.search, question, model.top)
        headers = {k: v for k, v in request.headers.items() if k == "authorization"}

        async def count(messages: Messages) -> Size:
            return await model.upstream.count(body, messages, headers)

        prompt = await _unless_gone(
            request, fitted(body["messages"], found, _reserve(body, model.reserve), count)
        )
        sources = [
            {"document": one.document, "passage": one.number, "score": one.score} for one in prompt.passages
        ]
        extra = {"model": model.base, "version": version.name, "digest": version.digest, "sources": sources}
        answer = await _unless_gone(request, model.upstream.answer(body, prompt.messages, headers))
        if body.get("stream"):
            return StreamingResponse(events(answer, extra, model.name), media_type="text/event-stream")
        return JSONResponse(await _unless_gone(request, whole(answer, extra, model.name)))

    async def listed(self) -> dict[str, Any]:
        names = [self.embeddings, *self.models]
        data = [{"id": name, "object": "model", "created": 0, "owned_by": EXTRA} for name in names]
        return {"object": "list", "data": data}

    async def ready(self) -> dict[str, Any]:
        """A collection without a version makes no replica unready: embeddings and the other ones are served."""
        return {name: collection.state for name, collection in self.collections.items()}


def application(service: Service) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.look)
        following = asyncio.create_task(service.follow())
        yield
        following.cancel()
        await service.client.aclose()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/health/live", _alive)
    app.add_api_route("/health/ready", service.ready)
    app.add_api_route("/v1/models", service.listed)
    app.add_api_route("/v1/embeddings", service.embed, methods=["POST"])
    app.add_api_route("/v1/chat/completions", service.chat, methods=["POST"])
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(Failed, _failed)
    return app


async def _alive() -> dict[str, Any]:
    return {}


async def _body(request: Request, models: list[str]) -> dict[str, Any]:
    """The request as a mapping whose `model` is one of these. Raises: Refused, or Failed with 404 or 413."""
    if int(request.headers.get("content-length", 0)) > MOST_BODY:
        raise Failed(413, error_body(413, f"a request has at most {MOST_BODY:,} bytes"), JSON)
    try:
        body = json.loads(await request.body(), parse_constant=_no_number)
        # Half a character can be written in JSON, and sent to no tokenizer and no model.
        json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refused(f"the request is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise Refused("the request is no JSON object")
    if body.get("model") not in models:
        message = f"no model {body.get('model')!r} for this path; there is {', '.join(models) or 'none'}"
        raise Failed(404, error_body(404, message), JSON)
    return body


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _reserve(body: dict[str, Any], default: int) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        found = body.get(name)
        if found is not None:
            if not isinstance(found, int) or isinstance(found, bool) or found < 1:
                raise Refused(f"{name}: found {found!r}, a whole number of at least 1 is wanted")
            return found
    return default


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What comes of the work, which ends when its client has gone: the model need not go on for nobody."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=1)
            if not task.done() and await request.is_disconnected():
                raise Failed(499, b"", {})
        return task.result()
    finally:
        task.cancel()


def _unavailable(message: str) -> Failed:
    return Failed(503, error_body(503, message), {**JSON, "retry-after": "5"})


async def _refused(_: Request, error: Exception) -> Response:
    return Response(error_body(400, str(error)), 400, JSON)


async def _failed(_: Request, error: Exception) -> Response:
    assert isinstance(error, Failed)
    return Response(error.body, error.status, error.headers)


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    settings = json.loads(Path(os.environ["RETRIEVAL_SETTINGS"]).read_text(encoding="utf-8"))
    uvicorn.run(
        application(Service(settings, Path(os.environ["RETRIEVAL_ROOT"]))),
        host=os.environ.get("RETRIEVAL_HOST", "0.0.0.0"),
        port=int(os.environ["RETRIEVAL_PORT"]),
        timeout_graceful_shutdown=int(os.environ["RETRIEVAL_DRAIN"]),
        server_header=False,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
