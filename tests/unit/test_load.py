"""What counts as an answer that came whole."""

import asyncio
import json
import threading

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse

from tests.load import OpenLoop, quantile

ENDS = {
    "good": ["stop", "[DONE]"],
    "aborted": ["abort", "[DONE]"],
    "cut": ["stop"],
    "unfinished": [None, "[DONE]"],
    "broken": ["error", "[DONE]"],
}


@pytest.fixture(scope="module")
def server():
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def answer(body: dict):
        if body["model"] == "busy":
            return JSONResponse({"error": "busy"}, status_code=503)
        return StreamingResponse(_events(body["model"]), headers={"x-served-model": "v7"})

    made = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    while not made.started:
        pass
    yield f"http://127.0.0.1:{made.servers[0].sockets[0].getsockname()[1]}/v1"
    made.should_exit = True
    thread.join(10)


async def _events(model: str):
    for end in ENDS[model]:
        if end == "[DONE]":
            yield "data: [DONE]\n\n"
        elif end == "error":
            yield 'data: {"error": {"message": "no"}}\n\n'
        else:
            choice = {"delta": {"content": "word"}, "finish_reason": end}
            yield f"data: {json.dumps({'model': model, 'choices': [choice]})}\n\n"
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        ("good", ""),
        ("aborted", "finish_reason 'abort'"),
        ("cut", "truncated: no mark of the end"),
        ("unfinished", "finish_reason ''"),
        ("broken", "error in the stream: {'message': 'no'}"),
        ("busy", '503: {"error":"busy"}'),
    ],
)
def test_only_what_came_whole_is_good(server, model, fault):
    with OpenLoop(server, model, rate=50) as load:
        load.wait_for(3)
    assert {stream.fault for stream in load.streams} == {fault}
    assert len(load.failed) == (len(load.streams) if fault else 0)
    if not fault:
        assert {stream.served for stream in load.streams} == {"v7"}
        assert all(stream.started <= stream.first <= stream.ended for stream in load.streams)


def test_nobody_there_is_a_fault(server):
    with OpenLoop("http://127.0.0.1:9/v1", "good", rate=50) as load:
        load.wait_for(2)
    assert all("ConnectError" in stream.fault for stream in load.streams)
    assert load.seconds_of_errors(load.streams[0].started) > 0


def test_a_quantile_is_a_value_that_was_seen():
    assert [quantile([1, 2, 3, 4], share) for share in (0, 0.5, 0.99)] == [1, 3, 4]
