"""What passes the door in front of LiteLLM."""

import asyncio
import json

import pytest

from modules.gateway.llm_gateway_server import ENDED, HEALTH, PATHS, PERMITS, STARTED, Door

BODY = 100
CLOSE = {b"connection": b"close"}


class Behind:
    """The application behind the door: remembers what it saw, answers as told."""

    def __init__(self, status: int = 200, headers: tuple = (), wait: asyncio.Event | None = None) -> None:
        self.status, self.headers, self.wait = status, list(headers), wait
        self.seen: list[dict] = []

    async def __call__(self, scope, receive, send) -> None:
        self.seen.append(scope)
        if self.wait and scope["path"] not in HEALTH:
            await self.wait.wait()
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"{}"})


async def ask(
    door: Door, path: str, method: str = "POST", headers: tuple = ((b"content-length", b"2"),), **more
):
    sent: list[dict] = []

    async def send(message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "path": path,
        "method": method,
        "headers": list(headers),
        "query_string": b"",
        **more,
    }
    await door(scope, None, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def answer(behind: Behind, path: str = "/v1/completions", *more, limit: int = 9, **given):
    return asyncio.run(ask(Door(behind, limit, BODY, {}), path, *more, **given))


@pytest.mark.parametrize(("path", "method"), PATHS.items())
def test_the_paths_of_clients_pass_with_one_method(path, method):
    behind = Behind()
    assert answer(behind, path, method)[0] == 200
    assert answer(behind, path, {"GET": "POST", "POST": "GET"}[method])[0] == 405
    assert len(behind.seen) == 1


@pytest.mark.parametrize(
    "path", ["/", "/key/generate", "/v1/models/", "/V1/models", "//v1/models", "/invocations"]
)
def test_everything_else_is_refused_with_the_paths_that_are_there(path):
    behind = Behind()
    status, _, body = answer(behind, path, "GET")
    assert (status, behind.seen) == (404, [])
    assert "/v1/chat/completions" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((), 411),
        (((b"content-length", b"-1"),), 411),
        (((b"content-length", b"101"),), 413),
        (((b"content-length", b"100"),), 200),
    ],
)
def test_a_request_has_a_length_and_a_limit(headers, status):
    assert answer(Behind(), headers=headers)[0] == status


def test_headers_and_query_of_a_client_give_no_orders():
    behind = Behind()
    given = (
        (b"content-length", b"2"),
        (b"Authorization", b"Bearer k"),
        (b"X-LiteLLM-Timeout", b"0"),
        (b"content-type", b"text/x"),
    )
    answer(behind, headers=given, query_string=b"model=other")
    [seen] = behind.seen
    assert seen["query_string"] == b""
    assert dict(seen["headers"]) == {
        b"content-length": b"2",
        b"Authorization": b"Bearer k",
        b"content-type": b"application/json",
    }


def test_answers_do_not_name_the_backends():
    behind = Behind(
        headers=(
            (b"x-litellm-model-api-base", b"http://a"),
            (b"x-litellm-call-id", b"1"),
            (b"llm_provider-x", b"y"),
        )
    )
    assert answer(behind)[1] == {b"x-litellm-call-id": b"1", **CLOSE}


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/models", "/nowhere"])
def test_no_client_keeps_a_connection_to_a_replica_that_may_end(path):
    assert CLOSE.items() <= answer(Behind(), path, PATHS.get(path, "GET"))[1].items()


@pytest.mark.parametrize(
    ("status", "given", "said"),
    [
        (503, (), b"1"),
        (429, (), b"1"),
        (429, ((b"Retry-After", b"7"),), b"7"),
        (200, (), None),
        (500, (), None),
    ],
)
def test_who_is_turned_away_learns_when_to_come_back(status, given, said):
    headers = {name.lower(): value for name, value in answer(Behind(status, given))[1].items()}
    assert headers.get(b"retry-after") == said


def test_above_the_limit_requests_are_turned_away_and_probes_are_not():
    async def scene() -> list[int]:
        wait = asyncio.Event()
        door = Door(Behind(wait=wait), 2, BODY, {})
        held = [asyncio.create_task(ask(door, "/v1/completions")) for _ in range(2)]
        await asyncio.sleep(0)
        full = await ask(door, "/v1/completions")
        probe = await ask(door, HEALTH[0], "GET")
        wait.set()
        await asyncio.gather(*held)
        again = await ask(door, "/v1/completions")
        assert full[1][b"retry-after"]
        return [full[0], probe[0], again[0]]

    assert asyncio.run(scene()) == [503, 200, 200]


def test_the_place_of_a_request_that_failed_is_free_again():
    class Failing:
        async def __call__(self, scope, receive, send) -> None:
            raise ConnectionError

    async def scene() -> None:
        door = Door(Failing(), 1, BODY, {})
        for _ in range(3):
            with pytest.raises(ConnectionError):
                await ask(door, "/v1/completions")

    asyncio.run(scene())


def test_websockets_are_closed():
    sent: list[dict] = []

    async def send(message) -> None:
        sent.append(message)

    behind = Behind()
    asyncio.run(Door(behind, 1, BODY, {})({"type": "websocket", "path": "/v1/realtime"}, None, send))
    assert (sent[0]["type"], behind.seen) == ("websocket.close", [])


def test_an_answer_says_which_version_served_it_and_not_where():
    headers = (
        (b"x-litellm-model-name", b"hosted_vllm/alps--v2"),
        (b"x-litellm-model-api-base", b"http://tiny.default.svc:8000/v1"),
    )
    _, shown, _ = answer(Behind(headers=headers))
    assert shown == {b"x-served-model": b"alps--v2", **CLOSE}


def test_what_a_request_took_of_its_teams_limits_is_shown_and_given_back_also_when_it_fails():
    released: list[str] = []

    class Permit:
        headers = {"x-ratelimit-remaining-requests": "4"}

        def release(self) -> None:
            released.append("one")

    class Taking(Behind):
        async def __call__(self, scope, receive, send) -> None:
            scope[PERMITS].append(Permit())
            await super().__call__(scope, receive, send)
            if self.status == 500:
                raise ConnectionError

    others = ((b"x-ratelimit-remaining-requests", b"999"), (b"x-ratelimit-limit-tokens", b"9"))
    assert answer(Taking(headers=others))[1] == {b"x-ratelimit-remaining-requests": b"4", **CLOSE}
    with pytest.raises(ConnectionError):
        answer(Taking(500))
    assert released == ["one", "one"]


def test_what_begins_and_ends_with_it_does_so_before_the_gateway_says_that_it_serves_and_that_it_is_over():
    told: list[str] = []

    async def starting(scope, receive, send) -> None:
        await send({"type": STARTED})
        await send({"type": ENDED})

    async def begin() -> None:
        told.append("begun")

    async def end() -> None:
        told.append("ended")

    async def send(message) -> None:
        told.append(message["type"])

    asyncio.run(
        Door(starting, 1, BODY, {STARTED: [begin, begin], ENDED: [end]})({"type": "lifespan"}, None, send)
    )
    assert told == ["begun", "begun", STARTED, "ended", ENDED]
