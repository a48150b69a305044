"""What the gateway says to a team at its limit, and what it does while the store of limits is away.

tests/contracts/test_gateway_limits_process.py has the real store, and what its scripts count.
"""

import asyncio
import logging
import re
import time
from types import SimpleNamespace

import pytest

from modules.gateway import llm_gateway_counts as counts
from modules.gateway import llm_gateway_outage as outage
from modules.gateway.llm_gateway_counts import Counts, Limit
from modules.gateway.llm_gateway_limits import Limits, OverLimit
from modules.gateway.llm_gateway_outage import Outage
from modules.gateway.llm_gateway_usage import Spent

AWAY, BACK = "their store does not answer", "it answers again"
TEAM = Limit(60, 20000, 8, 5_000_000, 2_592_000)
SCRIPTS = {counts._ADMIT: "admit", counts._CHARGE: "charge", counts._HOLD: "hold"}


class Redis:
    """Answers each command as told by its name; an exception is raised. `asked` has all of them."""

    def __init__(self, **answers) -> None:
        given = {"admit": [b"", 59, 20000], "charge": 1, "hold": 1, "ZREM": 1, "PING": b"PONG"}
        self.answers = {**given, **answers}
        self.asked: list[tuple] = []

    async def execute_command(self, command, *arguments):
        name = SCRIPTS[arguments[0]] if command == "EVAL" else command
        self.asked.append((name, *arguments))
        found = self.answers[name]
        if isinstance(found, Exception):
            raise found
        return found

    def names(self) -> list[str]:
        """Without what comes by itself."""
        return [name for name, *_ in self.asked if name not in ("PING", "hold")]


@pytest.fixture
def clock(monkeypatch):
    """The module's time, which passes when a test says so. The event loop keeps its own."""
    now = [1000.0]
    mine = SimpleNamespace(**{**vars(time), "monotonic": lambda: now[0]})
    for module in (counts, outage):
        monkeypatch.setattr(module, "time", mine)

    def passes(seconds: float) -> None:
        now[0] += seconds

    return passes


class Budget:
    """Of every team: so much is used, and so many seconds are left."""

    def __init__(self, tokens: int = 0, seconds: float = 5) -> None:
        self.tokens, self.seconds = tokens, seconds

    def spent(self, team: str) -> Spent:
        return Spent(self.tokens, time.monotonic() + self.seconds)


def made(redis: Redis, team: Limit = TEAM, usage: Budget | None = None) -> Limits:
    counts = Counts(redis, Outage(AWAY, BACK)) if team.counted else None
    return Limits(counts, usage or Budget(), {"weather": team})


def answer(call: str, tokens: int, team: str = "weather") -> dict:
    logged = {"metadata": {"user_api_key_team_id": team}, "total_tokens": tokens}
    return {"standard_logging_object": logged, "litellm_call_id": call}


@pytest.mark.parametrize(
    ("said", "message", "seconds"),
    [
        (
            [b"requests_per_minute", 60, 999],
            "requests_per_minute: 60 of 60 requests per minute used; the next request is let in in 1 s, at <when>",
            1,
        ),
        (
            [b"tokens_per_minute", 31007, 33001],
            "tokens_per_minute: 31,007 of 20,000 tokens per minute used; "
            "the next request is let in in 34 s, at <when>",
            34,
        ),
        (
            [b"parallel_requests", 8, 1000],
            "parallel_requests: 8 of 8 requests open at once; the next is let in when one of them ends",
            1,
        ),
    ],
    ids=lambda value: value[0].decode() if isinstance(value, list) else "",
)
def test_a_refusal_names_the_limit_the_number_and_when_it_is_free(said, message, seconds):
    with pytest.raises(OverLimit) as refused:
        asyncio.run(made(Redis(admit=said)).admit("weather"))
    assert without_time(refused.value) == f"team weather is at its limit {message}"
    assert (refused.value.limit, refused.value.seconds) == (said[0].decode(), seconds)


def without_time(refused: OverLimit) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "<when>", str(refused))


@pytest.mark.parametrize(("left", "seconds"), [(86399.5, 86400), (-1, 1)])
def test_a_budget_that_is_used_up_refuses_before_anything_is_taken(left, seconds):
    redis = Redis()
    with pytest.raises(OverLimit) as refused:
        asyncio.run(made(redis, usage=Budget(5_000_123, left)).admit("weather"))
    assert without_time(refused.value) == (
        "team weather is at its limit token_budget: 5,000,123 of 5,000,000 tokens used, the budget of 2,592,000 s; "
        f"a new budget begins in {seconds:,} s, at <when>"
    )
    assert (refused.value.limit, refused.value.seconds) == ("token_budget", seconds)
    assert redis.asked == []


def test_a_team_with_a_budget_alone_needs_no_store():
    only_budget = made(Redis(), Limit(token_budget=5, budget_seconds=5), Budget(4))

    async def scene() -> None:
        await only_budget.begin()
        assert (await only_budget.admit("weather")).headers == {}

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("team", "names"),
    [
        (TEAM, ["limit-requests", "remaining-requests", "limit-tokens", "remaining-tokens"]),
        (TEAM._replace(tokens_per_minute=0), ["limit-requests", "remaining-requests"]),
        (Limit(parallel_requests=5), []),
    ],
)
def test_headers_say_what_is_known(team, names):
    permit = asyncio.run(made(Redis(), team).admit("weather"))
    assert [name.removeprefix("x-ratelimit-") for name in permit.headers] == names


def test_a_team_without_limits_asks_nothing():
    redis = Redis()

    async def scene() -> None:
        counted = made(redis)
        permit = await counted.admit("climate")
        permit.release()
        await counted.answered(answer("1", 5, "climate"), None, None, None)

    asyncio.run(scene())
    assert redis.asked == []


def test_a_place_is_given_back_when_the_request_ends_and_not_when_it_was_refused():
    redis = Redis()

    async def scene() -> None:
        counted = made(redis)
        permit = await counted.admit("weather")
        permit.release()
        permit.release()
        redis.answers["admit"] = [b"requests_per_minute", 60, 5]
        with pytest.raises(OverLimit):
            await counted.admit("weather")
        await asyncio.sleep(0)
        assert counted._open == {}

    asyncio.run(scene())
    assert sorted(redis.names()) == ["ZREM", "admit", "admit"]


def test_while_the_store_is_away_requests_pass_and_it_is_asked_once_a_second(clock):
    redis = Redis(admit=ConnectionError("no"), PING=ConnectionError("no"))

    async def scene() -> None:
        counted = made(redis)
        for _ in range(50):
            assert (await counted.admit("weather")).headers == {}
        assert redis.names() == ["admit"]
        clock(counts.PAUSE_SECONDS)
        await counted.admit("weather")
        assert redis.names() == ["admit", "admit"]

    asyncio.run(scene())


def test_a_store_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(counts, "ANSWER_SECONDS", 0.01)

    class Hanging(Redis):
        async def execute_command(self, *command):
            await asyncio.sleep(3600)

    assert asyncio.run(made(Hanging()).admit("weather")).headers == {}


def test_the_log_says_once_a_minute_for_each_cause_that_it_is_away_and_once_that_it_is_back(clock, caplog):
    redis = Redis(admit=ConnectionError("refused"), PING=ConnectionError("refused"))

    async def scene() -> None:
        counted = made(redis)
        for _ in range(100):
            await counted.admit("weather")
            clock(1)
        redis.answers["admit"] = TimeoutError("silent")
        for _ in range(10):
            await counted.admit("weather")
            clock(1)
        redis.answers["admit"] = [b"", 59, 20000]
        for _ in range(5):
            await counted.admit("weather")
            clock(1)

    with caplog.at_level(logging.INFO):
        asyncio.run(scene())
    kinds = [record.getMessage().removeprefix(f"{AWAY}: ") for record in caplog.records]
    assert kinds == [
        *("ConnectionError: refused", "ConnectionError: refused", "TimeoutError: silent"),
        f"{BACK} after 110 s",
    ]


def test_what_the_store_has_not_counted_is_sent_again_under_the_same_name(clock):
    redis = Redis(charge=TimeoutError("silent"))

    async def scene() -> None:
        counted = made(redis)
        await counted.answered(answer("one", 7), None, None, None)
        await counted.answered(answer("two", 8), None, None, None)
        redis.answers["charge"] = 1
        clock(counts.PAUSE_SECONDS)
        await counted.answered(answer("three", 9), None, None, None)
        await counted.answered(answer("four", 10), None, None, None)

    asyncio.run(scene())
    # Behind the name: script, number of keys, two keys, and first of all what was used.
    charges = [(asked[3], asked[5]) for asked in redis.asked if asked[0] == "charge"]
    assert charges == [
        *(("charged:one", 7), ("charged:one", 7), ("charged:two", 8)),
        *(("charged:three", 9), ("charged:four", 10)),
    ]


def test_a_team_whose_tokens_nobody_limits_is_not_counted():
    redis = Redis()
    only_requests = made(redis, Limit(requests_per_minute=5))
    asyncio.run(only_requests.answered(answer("one", 7), None, None, None))
    assert redis.asked == []


def test_a_store_that_comes_and_goes_is_not_told_each_time(clock, caplog):
    redis = Redis()

    async def scene() -> None:
        counted = made(redis)
        for second in range(50):
            redis.answers["admit"] = ConnectionError("refused") if second % 2 else [b"", 59, 20000]
            await counted.admit("weather")
            clock(1)

    asyncio.run(scene())
    assert len(caplog.records) == 2, "that it is away, and that it is back"


def test_the_store_is_met_before_the_first_request():
    redis = Redis()
    asyncio.run(made(redis).begin())
    assert redis.asked[0] == ("PING",)
