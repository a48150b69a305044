"""What teams have used, in the site's PostgreSQL: their budgets, and a line for each team, key, model and day.

Mounted beside llm_gateway_server.py. No request waits for the database: a replica adds up what its answers cost, writes
that twice a second, and reads what all replicas have written. While the database is away it goes on with what it knows,
and keeps what it owes. What is written, and how it is read by others: sitewright/usage.py.
"""

import asyncio
import logging
import os
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

WRITE_SECONDS = 0.5
ANSWER_SECONDS = 5.0  # a database that takes longer is away
log = logging.getLogger("sitewright.gateway")

# Replicas start at the same time, and `if not exists` alone lets two of them try.
TABLES = """
select pg_advisory_xact_lock(hashtext('llm_gateway'));
create schema if not exists llm_gateway;
create table if not exists llm_gateway.usage (
  team text, key text, model text, day date, requests bigint not null, prompt_tokens bigint not null,
  completion_tokens bigint not null, last_used timestamptz not null, primary key (team, key, model, day));
create table if not exists llm_gateway.budget (
  team text primary key, tokens bigint not null, ends timestamptz not null);
create table if not exists llm_gateway.writer (id uuid primary key, batch bigint not null, at timestamptz not null);
delete from llm_gateway.writer where at < now() - interval '30 days';
"""
# Nothing where this batch is written already: the answer to it was lost then.
_CLAIM = """
insert into llm_gateway.writer values ($1, $2, now())
on conflict (id) do update set batch = excluded.batch, at = excluded.at where writer.batch < excluded.batch
returning batch
"""
_USED = """
insert into llm_gateway.usage values ($1, $2, $3, $4, $5, $6, $7, now())
on conflict (team, key, model, day) do update set last_used = excluded.last_used,
  requests = usage.requests + excluded.requests,
  prompt_tokens = usage.prompt_tokens + excluded.prompt_tokens,
  completion_tokens = usage.completion_tokens + excluded.completion_tokens
"""
# A period begins with the first answer after the end of the one before.
_SPENT = """
insert into llm_gateway.budget values ($1, $2, now() + make_interval(secs => $3))
on conflict (team) do update set
  tokens = excluded.tokens + case when budget.ends > now() then budget.tokens else 0 end,
  ends = case when budget.ends > now() then budget.ends else excluded.ends end
"""
_BUDGETS = "select team, tokens, extract(epoch from ends - now())::float8 as seconds from llm_gateway.budget"


class Line(NamedTuple):
    """key: name of the entry with it, which tells a team's second key from its first."""

    team: str
    key: str
    model: str
    day: Any  # datetime.date, UTC


class Used(NamedTuple):
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def plus(self, other: "Used") -> "Used":
        return Used(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class Batch(NamedTuple):
    """What is written at once. number: of this replica's batches, so that none is written twice."""

    number: int
    lines: dict[Line, Used]

    def add(self, line: Line, used: Used) -> None:
        self.lines[line] = self.lines.get(line, Used()).plus(used)

    def of_teams(self) -> dict[str, int]:
        """Tokens by team."""
        made: dict[str, int] = {}
        for line, used in self.lines.items():
            made[line.team] = made.get(line.team, 0) + used.tokens
        return made


class Spent(NamedTuple):
    """tokens: of a budget; ends: of its period, on time.monotonic()."""

    tokens: int
    ends: float


class Usage:
    """connect: makes a connection of asyncpg. periods: seconds of the budget of each team that has one.
    outage: of llm_gateway_outage.py."""

    def __init__(
        self, connect: Callable[[], Awaitable[Any]], periods: Mapping[str, int], outage: Any
    ) -> None:
        self._connect, self._periods, self._outage = connect, periods, outage
        self._writer = uuid.uuid4()
        self._connection: Any = None
        self._open = Batch(1, {})  # grows
        self._closed: Batch | None = None  # is being written, or has to be written again
        self._known: dict[str, Spent] = {}
        self._settled = time.monotonic()
        self._turn = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Meets the database before the first request comes, and writes from now on."""
        await self.settle()
        self._keeper = asyncio.create_task(self._keep())

    async def end(self) -> None:
        """Writes what is left."""
        if self._keeper is not None:
            self._keeper.cancel()
        await asyncio.sleep(WRITE_SECONDS)  # LiteLLM tells of the last answers after they have left
        await self.settle()
        if left := sum(used.tokens for batch in self._unwritten() for used in batch.lines.values()):
            log.error("%d tokens that teams have used are lost, the database did not take them", left)

    def spent(self, team: str) -> Spent:
        """Of the team's budget, as far as this replica knows."""
        now = time.monotonic()
        known = self._known.get(team)
        if known is None or known.ends <= now:
            known = Spent(0, now + self._periods[team])
        return known._replace(tokens=known.tokens + self._owed(team))

    def behind(self) -> float:
        """Seconds since the database took what was owed."""
        return time.monotonic() - self._settled

    async def answered(self, kwargs: Any, _response: Any, _start: Any, _end: Any) -> None:
        """LiteLLM's hook, after each answer; after a stream that its client left too, with what had been produced."""
        logged = kwargs.get("standard_logging_object") or {}
        metadata = logged.get("metadata") or {}
        team, key = metadata.get("user_api_key_team_id"), metadata.get("user_api_key_alias")
        used = Used(1, int(logged.get("prompt_tokens") or 0), int(logged.get("completion_tokens") or 0))
        if team and used.tokens:
            model, day = str(logged.get("model_group") or ""), datetime.now(UTC).date()
            line = Line(str(team), str(key or ""), model, day)
            self._open.add(line, used)

    async def settle(self) -> None:
        """Writes what is owed, and reads what all replicas have written. Raises nothing: it tells the log."""
        async with self._turn:
            if self._closed is None and self._open.lines:
                self._closed, self._open = self._open, Batch(self._open.number + 1, {})
            asked = time.monotonic()
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    known = await self._exchange(self._closed)
            except Exception as error:
                self._outage.began(error)
                if self._connection is not None:
                    self._connection.terminate()
                    self._connection = None
                return
            self._known, self._closed, self._settled = known, None, time.monotonic()
            self._outage.answered(asked)

    async def _exchange(self, batch: Batch | None) -> dict[str, Spent]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
            await self._connection.execute(TABLES)
        connection = self._connection
        async with connection.transaction():
            if batch and await connection.fetchval(_CLAIM, self._writer, batch.number) is not None:
                # Sorted, so that two replicas never wait for each other.
                lines = [(*line, *used) for line, used in sorted(batch.lines.items())]
                await connection.executemany(_USED, lines)
                spent = sorted(batch.of_teams().items())
                budgets = [
                    (team, tokens, self._periods[team]) for team, tokens in spent if team in self._periods
                ]
                await connection.executemany(_SPENT, budgets)
            found = await connection.fetch(_BUDGETS)
        now = time.monotonic()
        return {one["team"]: Spent(one["tokens"], now + one["seconds"]) for one in found}

    def _unwritten(self) -> list[Batch]:
        return [self._open] if self._closed is None else [self._closed, self._open]

    def _owed(self, team: str) -> int:
        return sum(batch.of_teams().get(team, 0) for batch in self._unwritten())

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.settle()


USAGE: Usage | None = None


def install(periods: Mapping[str, int]) -> None:
    """Where the container's variables name a database: has LiteLLM tell of answers, which are written there.

    periods: of `Usage`.
    """
    global USAGE
    if "GATEWAY_DATABASE" in os.environ:
        import litellm  # type: ignore[import-not-found]
        from llm_gateway_outage import Outage  # type: ignore[import-not-found]

        away = "what teams use is kept in memory, the database does not take it"
        USAGE = Usage(connect, periods, Outage(away, "the database takes what teams use again"))
        litellm.logging_callback_manager.add_litellm_async_success_callback(USAGE.answered)


async def begin() -> None:
    if USAGE is not None:
        await USAGE.begin()


async def end() -> None:
    if USAGE is not None:
        await USAGE.end()


async def connect() -> Any:
    """A connection to that of the addresses which can be written to. The password is read anew: it may change."""
    import asyncpg  # type: ignore[import-untyped]

    secret = Path(os.environ["GATEWAY_DATABASE_SECRET"])
    addresses = [address.rpartition(":") for address in os.environ["GATEWAY_DATABASE"].split(",")]
    return await asyncpg.connect(
        host=[host for host, _, _ in addresses],
        port=[int(port) for _, _, port in addresses],
        database=os.environ["GATEWAY_DATABASE_NAME"],
        user=os.environ["GATEWAY_DATABASE_USER"],
        password=(secret / "password").read_text(encoding="utf-8").strip(),
        ssl=ssl.create_default_context(cafile=str(secret / "ca.crt")),
        target_session_attrs="read-write",
        timeout=ANSWER_SECONDS,
        statement_cache_size=0,  # a pgbouncer in between may give each transaction to another server
    )
