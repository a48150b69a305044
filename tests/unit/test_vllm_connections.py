"""What is added to vLLM's answers."""

import threading

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from modules.inference.vllm_connections import CloseAfterAnswer


async def _stream(request):
    async def words():
        for word in ("one ", "two ", "three"):
            yield word

    return StreamingResponse(words())


async def _plain(request):
    return PlainTextResponse("one two three")


@pytest.fixture(scope="module")
def server():
    app = Starlette(routes=[Route("/stream", _stream), Route("/plain", _plain)])
    app.add_middleware(CloseAfterAnswer)
    made = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    while not made.started:
        pass
    yield f"http://127.0.0.1:{made.servers[0].sockets[0].getsockname()[1]}"
    made.should_exit = True
    thread.join(10)


@pytest.mark.parametrize("path", ["/stream", "/plain", "/nothing"])
def test_an_answer_is_whole_and_its_connection_is_not_used_again(server, path):
    with httpx.Client(base_url=server) as client:
        ports = set()
        for _ in range(3):
            with client.stream("GET", path) as answer:
                ports.add(answer.extensions["network_stream"].get_extra_info("client_addr")[1])
                assert answer.headers["connection"] == "close"
                assert path == "/nothing" or answer.read() == b"one two three"
        assert len(ports) == 3
