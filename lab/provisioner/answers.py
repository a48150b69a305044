"""Answers as the Go services write them: RFC 7807 problems, bare JSON, empty bodies with a type."""

import json
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

JSON_UTF8 = "application/json; charset=UTF-8"
TEXT_UTF8 = "text/plain; charset=utf-8"


class Problem(Exception):
    """Ends a request with an RFC 7807 answer."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail

    def body(self) -> dict[str, Any]:
        title = HTTPStatus(self.status).phrase
        return {"type": "about:blank", "title": title, "detail": self.detail, "status": self.status}


def answer(body: Any, status: int = 200, media: str = "application/json", **headers: str) -> Response:
    """`body` as JSON. headers: `bss_referral_token=…` becomes `bss-referral-token: …`."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(json.dumps(body), status, names | {"content-type": media})


def text(body: str, status: int = 200, media: str = TEXT_UTF8) -> Response:
    return Response(body, status, {"content-type": media})


def empty(status: int, media: str | None = None, **headers: str) -> Response:
    """No body; the services send a content type with it all the same, or none where `media` is None."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(None, status, names | ({"content-type": media} if media else {}))


async def read_json(request: Request) -> Any:
    """The body as JSON, whatever its content type says. Raises ValueError, worded as Go words it."""
    body = (await request.body()).decode(errors="replace")
    try:
        return json.loads(body)
    except ValueError as error:
        if not body.strip() or getattr(error, "pos", 0) >= len(body.rstrip()):
            raise ValueError("unexpected end of JSON input") from error
        raise ValueError(f"invalid character at offset {getattr(error, 'pos', 0)}") from error


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises ValueError."""
    body = await read_json(request)
    if not isinstance(body, dict):
        raise ValueError("cannot unmarshal: a JSON object was expected")
    return body


def new_app(title: str) -> FastAPI:
    """An application that answers problems, unknown paths and wrong methods as the real services do."""
    app = FastAPI(title=f"{title} (sitewright lab stand-in)", openapi_url=None, redirect_slashes=False)

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> Response:
        return answer(error.body(), error.status, "application/problem+json")

    @app.exception_handler(HTTPException)
    async def router(_: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.NOT_FOUND:
            return text("404 page not found\n", 404)
        return empty(error.status_code)

    return app
