"""The models that answer, as the retrieval service asks them: vLLM's OpenAI server.

Errors go back as they came. In an answer, the model is named as it was asked for, and `sitewright` says where the
passages are from; clients of OpenAI's API leave a field alone that they do not know.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from modules.retrieval.retrieval_prompt import Messages, Size

EXTRA = "sitewright"  # field of an answer
THROUGH_LITELLM = "provider_specific_fields"  # of a delta; Source: LiteLLM 1.110.2, streaming_handler.py
PASSED = ("content-type", "retry-after")  # headers of an answer that pass
# Parameters that change how many tokens a prompt has.
FOR_THE_TEMPLATE = (
    "add_generation_prompt",
    "add_special_tokens",
    "chat_template_kwargs",
    "continue_final_message",
    "tools",
)
DONE = b"[DONE]"


class Failed(Exception):
    """An answer to pass on instead of one from the model."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers


class Upstream:
    """One model. api_base: with /v1; model: its name there.

    Every method raises Failed with what the model answered, or 503 where it does not answer.
    """

    def __init__(self, client: httpx.AsyncClient, api_base: str, model: str) -> None:
        self._client, self._base, self._model = client, api_base, model

    async def count(self, body: dict[str, Any], messages: Messages, headers: dict[str, str]) -> Size:
        """Tokens of a prompt as the model's chat template makes it. Source: vLLM, TokenizeChatRequest."""
        asked = {"model": self._model, "messages": messages}
        asked |= {name: body[name] for name in FOR_THE_TEMPLATE if name in body}
        response = await self._send(f"{self._base.removesuffix('/v1')}/tokenize", asked, headers)
        no_vllm = _failed(502, f"model {self._model} counts no tokens (POST /tokenize); it is no vLLM")
        try:
            found = json.loads(await _whole(response))
            return Size(found["count"], found["max_model_len"])
        except (ValueError, KeyError, TypeError) as error:
            raise no_vllm from error
        except Failed as failed:
            # A path that is not there; a model that is not there has an error in OpenAI's form.
            if failed.status in (404, 405) and b'"error"' not in failed.body:
                raise no_vllm from failed
            raise

    async def answer(
        self, body: dict[str, Any], messages: Messages, headers: dict[str, str]
    ) -> httpx.Response:
        """The model's answer with status 200, not yet read; whoever gets it closes it."""
        asked = {**body, "model": self._model, "messages": messages}
        response = await self._send(f"{self._base}/chat/completions", asked, headers)
        if response.status_code != 200:
            await _whole(response)
        return response

    async def _send(self, url: str, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        request = self._client.build_request("POST", url, json=body, headers=headers)
        try:
            return await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise _failed(503, f"model {self._model} does not answer: {type(error).__name__}") from error


async def whole(response: httpx.Response, extra: dict[str, Any], name: str) -> dict[str, Any]:
    """An answer in one piece, with its sources."""
    return {**json.loads(await _whole(response)), "model": name, EXTRA: extra}


async def events(response: httpx.Response, extra: dict[str, Any], name: str) -> AsyncIterator[bytes]:
    """The lines of a stream as they come, with the sources in the chunk that ends a choice."""
    rest = b""
    try:
        # Lines are told by \n alone: JSON may hold other characters that Python takes for line ends.
        async for piece in response.aiter_bytes():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield _event(line, extra, name) + b"\n"
        if rest:
            yield _event(rest, extra, name)
    except httpx.TransportError as error:
        # The status is out: the stream ends with an error and without its end mark.
        yield b"data: " + error_body(502, f"model {name} broke off: {type(error).__name__}") + b"\n\n"
    finally:
        await response.aclose()


def _event(line: bytes, extra: dict[str, Any], name: str) -> bytes:
    data = line.removeprefix(b"data:").strip()
    if data == line.strip() or data == DONE:
        return line
    chunk = json.loads(data)
    if "choices" not in chunk:
        return line  # an error in the middle of a stream
    chunk["model"] = name
    for choice in chunk["choices"]:
        if choice.get("finish_reason"):
            chunk[EXTRA] = extra
            # Of a chunk, LiteLLM passes no field on that it does not know, but for those in here.
            choice.setdefault("delta", {})[THROUGH_LITELLM] = {EXTRA: extra}
    return b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode()


def error_body(status: int, message: str) -> bytes:
    """An error in the form OpenAI's clients understand."""
    kind = "invalid_request_error" if status < 500 else "retrieval_error"
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": status}}).encode()


def _failed(status: int, message: str) -> Failed:
    headers = {"content-type": "application/json"} | ({"retry-after": "1"} if status == 503 else {})
    return Failed(status, error_body(status, message), headers)


async def _whole(response: httpx.Response) -> bytes:
    """The body. Raises: Failed with it where the status is not 200."""
    try:
        body = await response.aread()
    except httpx.TransportError as error:
        raise _failed(503, f"the model broke off: {type(error).__name__}") from error
    finally:
        await response.aclose()
    if response.status_code != 200:
        headers = {key: response.headers[key] for key in PASSED if key in response.headers}
        raise Failed(response.status_code, body, headers)
    return body
