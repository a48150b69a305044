"""What a replica of the gateway knows of budgets while the database answers, and while it does not.

tests/contracts/test_gateway_usage_process.py has the real database, and what its statements do.
"""

import asyncio
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from modules.gateway import llm_gateway_usage as usage
from modules.gateway.llm_gateway_usage import Usage

PERIODS = {"weather": 3600}


class Database:
    """One connection to what the tables hold. refuses: raised when a transaction ends, which is kept all the same."""

    def __init__(self) -> None:
        self.budgets: dict[str, int] = {}
        self.lines: list[tuple] = []
        self.batches: dict[object, int] = {}
        self.refuses: Exception | None = None
        self.away: Exception | None = None
        self.connected = 0

    async def connect(self):
        if self.away:
            raise self.away
        self.connected += 1
        return self

    def is_closed(self) -> bool:
        return False

    def terminate(self) -> None:
        pass

    async def execute(self, _statements) -> None:
        pass

    @asynccontextmanager
    async def transaction(self):
        if self.away:
            raise self.away
        yield
        if self.refuses:
            raise self.refuses

    async def fetchval(self, _statement, writer, number):
        if self.batches.get(writer, 0) >= number:
            return None
        self.batches[writer] = number
        return number

    async def executemany(self, statement, rows) -> None:
        if statement == usage._USED:
            self.lines += rows
        for team, tokens, _ in rows if statement == usage._SPENT else ():
            self.budgets[team] = self.budgets.get(team, 0) + tokens

    async def fetch(self, _statement):
        return [{"team": team, "tokens": tokens, "seconds": 60.0} for team, tokens in self.budgets.items()]


class Heard:
    """Outages, as the log would say them."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.back = 0

    def began(self, error: Exception) -> None:
        self.errors.append(error)

    def answered(self, _asked: float) -> None:
        self.back += 1


def made(database: Database) -> tuple[Usage, Heard]:
    heard = Heard()
    return Usage(database.connect, PERIODS, heard), heard


async def answer(
    kept: Usage, prompt: int, completion: int, team: str = "weather", model: str = "chat"
) -> None:
    metadata = {"user_api_key_team_id": team, "user_api_key_alias": f"{team}.next"}
    logged = {"metadata": metadata, "model_group": model}
    logged |= {"prompt_tokens": prompt, "completion_tokens": completion}
    await kept.answered({"standard_logging_object": logged}, None, None, None)


def test_what_was_answered_counts_at_once_and_is_written_once():
    database = Database()
    kept, _ = made(database)

    async def scene() -> None:
        await answer(kept, 7, 1000)
        assert kept.spent("weather").tokens == 1007
        await kept.settle()
        await kept.settle()
        assert kept.spent("weather").tokens == 1007

    asyncio.run(scene())
    [(team, key, model, _, *numbers)] = database.lines
    assert (team, key, model, numbers) == ("weather", "weather.next", "chat", [1, 7, 1000])
    assert database.budgets == {"weather": 1007}


def test_answers_of_a_team_model_and_day_are_one_line_and_a_team_without_a_budget_has_lines_too():
    database = Database()
    kept, _ = made(database)

    async def scene() -> None:
        for _ in range(3):
            await answer(kept, 1, 1)
            await answer(kept, 2, 0, team="climate", model="embeddings")
        await kept.settle()

    asyncio.run(scene())
    assert [(line[:3], line[4:]) for line in database.lines] == [
        (("climate", "climate.next", "embeddings"), (3, 6, 0)),
        (("weather", "weather.next", "chat"), (3, 3, 3)),
    ]
    assert database.budgets == {"weather": 6}


@pytest.mark.parametrize(
    "logged",
    [{}, {"metadata": None}, {"metadata": {"user_api_key_team_id": "weather"}, "prompt_tokens": None}],
    ids=["nothing", "no team", "no tokens"],
)
def test_what_has_cost_nothing_or_is_nobodys_is_no_line(logged):
    database = Database()
    kept, _ = made(database)

    async def scene() -> None:
        await kept.answered({"standard_logging_object": logged}, None, None, None)
        await kept.settle()

    asyncio.run(scene())
    assert database.lines == []


def test_a_batch_whose_answer_was_lost_is_not_written_twice():
    database = Database()
    kept, heard = made(database)

    async def scene() -> None:
        await answer(kept, 0, 5)
        database.refuses = ConnectionError("lost")
        await kept.settle()
        await answer(kept, 0, 7)
        assert kept.spent("weather").tokens == 12
        database.refuses = None
        await kept.settle()
        await kept.settle()
        assert kept.spent("weather").tokens == 12

    asyncio.run(scene())
    assert database.budgets == {"weather": 12}
    assert [str(error) for error in heard.errors] == ["lost"]
    assert database.connected == 2, "a connection that failed is not used again"


def test_while_the_database_is_away_budgets_hold_with_what_is_known_and_end_with_their_period(monkeypatch):
    database, now = Database(), [1000.0]
    monkeypatch.setattr(usage, "time", SimpleNamespace(**{**vars(time), "monotonic": lambda: now[0]}))
    database.budgets = {"weather": 100}
    kept, _ = made(database)

    async def scene() -> None:
        await kept.settle()
        database.away = OSError("no route")
        await answer(kept, 0, 5)
        await kept.settle()
        assert kept.spent("weather") == (105, 1060.0)
        now[0] += 61
        assert kept.spent("weather") == (5, now[0] + 3600)

    asyncio.run(scene())


def test_how_far_it_is_behind_counts_from_the_last_time_the_database_took_all(monkeypatch):
    database, now = Database(), [1000.0]
    monkeypatch.setattr(usage, "time", SimpleNamespace(**{**vars(time), "monotonic": lambda: now[0]}))
    kept, _ = made(database)

    async def scene() -> None:
        await kept.settle()
        database.away = OSError("no route")
        now[0] += 400
        await kept.settle()
        assert kept.behind() == 400
        database.away = None
        await kept.settle()
        assert kept.behind() == 0

    asyncio.run(scene())


def test_a_database_that_hangs_is_away(monkeypatch):
    monkeypatch.setattr(usage, "ANSWER_SECONDS", 0.01)

    class Hanging(Database):
        async def connect(self):
            await asyncio.sleep(3600)

    kept, heard = made(Hanging())
    asyncio.run(kept.settle())
    assert [type(error) for error in heard.errors] == [TimeoutError]


def test_what_is_left_is_written_at_the_end_or_the_log_says_how_much_is_lost(monkeypatch, caplog):
    monkeypatch.setattr(usage, "WRITE_SECONDS", 0.0)
    database = Database()

    async def scene(kept: Usage) -> None:
        await kept.begin()
        await answer(kept, 3, 4)
        await kept.end()

    asyncio.run(scene(made(database)[0]))
    assert database.budgets == {"weather": 7}
    assert not caplog.records
    database.away = OSError("no route")
    asyncio.run(scene(made(database)[0]))
    assert "7 tokens that teams have used are lost" in caplog.text
