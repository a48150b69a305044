"""What a team may use of the gateway: requests and tokens per minute, requests at once, a budget of tokens.

Mounted beside llm_gateway_auth.py, which asks `Limits.admit`; LiteLLM tells `Limits.answered` of each answer.
All replicas count in one Redis, by its clock. Where it does not answer, requests pass and the log says so once
a minute: a model that serves without limits for a while is worth more than one that serves nobody.

Requests and tokens per minute are token buckets: what is left grows by a sixtieth of the limit each second, up to the
limit. What an answer costs is known at its end only, so tokens may fall below zero; the team then waits until they
have grown back. LiteLLM 1.110.2 has a limiter of its own (proxy/hooks/parallel_request_limiter_v3.py). It knows no
budget of tokens, writes a `max_tokens` of its own into requests of teams with small limits, and always says 60 s.
"""

import asyncio
import json
import logging
import math
import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ANSWER_SECONDS = 0.4  # the store takes 1 ms; a request waits twice this at most, to connect and to ask
PAUSE_SECONDS = 1.0  # a store that did not answer is not asked again for so long
SAY_SECONDS = 60.0
LEASE_SECONDS = 30  # a slot of a replica that died is free again after so long
KEEP_SECONDS = 5.0
CHARGED_SECONDS = 120  # the store knows for so long which answers it has counted; about 150 bytes each
MOST_OWED = 10_000  # answers remembered for a store that is away
log = logging.getLogger("sitewright.gateway")

# Whether a request may pass; if so, what it takes is taken. Nothing is taken of one limit if another one refuses.
# KEYS: requests, tokens, budget, slots. ARGV: the four limits (0: none), slot, lease in ms.
ADMIT = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local requests, tokens, budget, slots = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local function left(key, limit)
  local was = redis.call('HMGET', key, 'left', 'at')
  return math.min(limit, (tonumber(was[1]) or limit) + (now - (tonumber(was[2]) or now)) * limit / 60000)
end
local has_requests = requests > 0 and left(KEYS[1], requests) or 0
local has_tokens = tokens > 0 and left(KEYS[2], tokens) or 0
if budget > 0 then
  local used = tonumber(redis.call('GET', KEYS[3]) or '0')
  if used >= budget then return {'token_budget', used, redis.call('PTTL', KEYS[3])} end
end
if tokens > 0 and has_tokens < 1 then
  return {'tokens_per_minute', math.ceil(tokens - has_tokens), math.ceil((1 - has_tokens) * 60000 / tokens)}
end
if requests > 0 and has_requests < 1 then
  return {'requests_per_minute', math.ceil(requests - has_requests), math.ceil((1 - has_requests) * 60000 / requests)}
end
if slots > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
  local taken = redis.call('ZCARD', KEYS[4])
  if taken >= slots then return {'parallel_requests', taken, 1000} end
  redis.call('ZADD', KEYS[4], now + ARGV[6], ARGV[5])
  redis.call('PEXPIRE', KEYS[4], ARGV[6] * 2)
end
if requests > 0 then
  redis.call('HSET', KEYS[1], 'left', string.format('%.6f', has_requests - 1), 'at', now)
  redis.call('PEXPIRE', KEYS[1], 61000)
end
return {'', math.floor(has_requests) - 1, math.floor(has_tokens)}
"""

# An answer is counted, once: KEYS: charged, tokens, budget. ARGV: tokens used, per minute, budget's ms (0: no limit).
CHARGE = """
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[4]) then return 0 end
local used, limit, period = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if limit > 0 then
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  local was = redis.call('HMGET', KEYS[2], 'left', 'at')
  local left = math.min(limit, (tonumber(was[1]) or limit) + (now - (tonumber(was[2]) or now)) * limit / 60000)
  redis.call('HSET', KEYS[2], 'left', string.format('%.6f', left - used), 'at', now)
  redis.call('PEXPIRE', KEYS[2], math.ceil((limit - left + used) * 60000 / limit) + 1000)
end
if period > 0 then
  redis.call('INCRBY', KEYS[3], used)
  if redis.call('PTTL', KEYS[3]) < 0 then redis.call('PEXPIRE', KEYS[3], period) end
end
return 1
"""

# The slots of this replica are still taken. KEYS: slots. ARGV: lease in ms, slots.
KEEP = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for place = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[place]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1] * 2)
"""


class Limit(NamedTuple):
    """Of one team; 0 is no limit."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    parallel_requests: int = 0
    token_budget: int = 0
    budget_seconds: int = 0


class OverLimit(Exception):
    """limit: its name in the site file; seconds: until it is worth to ask again."""

    def __init__(self, limit: str, message: str, seconds: int) -> None:
        super().__init__(message)
        self.limit, self.seconds = limit, seconds


class Permit(NamedTuple):
    headers: dict[str, str]
    release: Callable[[], None]


class Answer(NamedTuple):
    team: str
    tokens: int


class Limits:
    """The limits of all teams, as the store has them."""

    def __init__(self, store: Any, teams: Mapping[str, Limit]) -> None:
        self._teams, self._store = teams, _Asked(store)
        self._open: dict[str, str] = {}  # slot: team
        self._freed: dict[str, str] = {}  # slots whose end the store has not heard of
        self._owed: dict[str, Answer] = {}  # answers it has not counted, by the id of the call
        self._settling = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None

    async def admit(self, team: str) -> Permit:
        """Takes what a request takes, or nothing where the team has no limit or the store does not answer.

        Raises: OverLimit.
        """
        limit = self._teams.get(team)
        if limit is None:
            return Permit({}, lambda: None)
        self._keeper = self._keeper or asyncio.create_task(self._keep_forever())
        slot = uuid.uuid4().hex
        wanted = [
            limit.requests_per_minute,
            limit.tokens_per_minute,
            limit.token_budget,
            limit.parallel_requests,
        ]
        keys = [_key(team, what) for what in ("requests", "tokens", "budget", "slots")]
        if limit.parallel_requests:
            # Also where the store is away: it learns of what is open when it is back.
            self._open[slot] = team
        try:
            found = await self._store.run(ADMIT, keys, [*wanted, slot, LEASE_SECONDS * 1000])
        except BaseException:
            self._release(slot)
            raise
        if found is None:
            return Permit({}, lambda: self._release(slot))
        name, first, second = found[0].decode(), int(found[1]), int(found[2])
        if name:
            self._open.pop(slot, None)
            raise _over(team, limit, name, first, math.ceil(max(second, 1) / 1000))
        return Permit(_headers(limit, first, second), lambda: self._release(slot))

    def _release(self, slot: str) -> None:
        team = self._open.pop(slot, None)
        if team is not None:
            self._freed[slot] = team
            task = asyncio.ensure_future(self._free())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _free(self) -> None:
        for team, slots in _by_team(self._freed).items():
            if await self._store.run_command("ZREM", _key(team, "slots"), *slots) is not None:
                for slot in slots:
                    self._freed.pop(slot, None)

    async def answered(self, kwargs: Any, _response: Any, _start: Any, _end: Any) -> None:
        """LiteLLM's hook, after each answer; after a stream that its client left too, with what had been produced."""
        logged = kwargs.get("standard_logging_object") or {}
        team = str((logged.get("metadata") or {}).get("user_api_key_team_id"))
        limit = self._teams.get(team)
        tokens = int(logged.get("total_tokens") or 0)
        if limit is None or not tokens or not (limit.tokens_per_minute or limit.token_budget):
            return
        if len(self._owed) < MOST_OWED:
            self._owed[str(kwargs.get("litellm_call_id") or uuid.uuid4().hex)] = Answer(team, tokens)
        await self._settle()

    async def _settle(self) -> None:
        """Has the store count what it has not yet. What it may have counted without our hearing of it is sent again."""
        async with self._settling:
            await self._settle_all()

    async def _settle_all(self) -> None:
        for call, answer in list(self._owed.items()):
            limit = self._teams[answer.team]
            keys = [f"charged:{call}", _key(answer.team, "tokens"), _key(answer.team, "budget")]
            period = limit.budget_seconds * 1000 if limit.token_budget else 0
            given = [answer.tokens, limit.tokens_per_minute, period, CHARGED_SECONDS]
            if await self._store.run(CHARGE, keys, given) is None:
                return
            self._owed.pop(call, None)

    async def _keep_forever(self) -> None:
        while True:
            try:
                await self._keep()
            except Exception:
                log.exception("the slots of open requests were not kept")
            await asyncio.sleep(KEEP_SECONDS)

    async def _keep(self) -> None:
        for team, slots in _by_team(self._open).items():
            await self._store.run(KEEP, [_key(team, "slots")], [LEASE_SECONDS * 1000, *slots])
            # One that ended meanwhile was perhaps freed first and then kept.
            self._freed |= {slot: team for slot in slots if slot not in self._open}
        await self._free()
        await self._settle()
        await self._store.run_command("PING")  # so that the log says when it is away and when it is back


class _Asked:
    """A store that may be away: None instead of an answer, within a second, and a line in the log once a minute."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._ask_from = float("-inf")
        self._away_since: float | None = None
        self._said: dict[str, float] = {}  # when, by the kind of error
        self._told = False  # whether it said so this time

    async def run(self, script: str, keys: list[str], values: list[Any]) -> Any:
        return await self.run_command("EVAL", script, len(keys), *keys, *values)

    async def run_command(self, *command: Any) -> Any:
        if time.monotonic() < self._ask_from:
            return None
        asked = time.monotonic()
        try:
            # Not wait_for, which in Python 3.11 loses a cancellation that comes with the answer.
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                found = await self._store.execute_command(*command)
        except Exception as error:
            self._away(error)
            return None
        # An answer to what was asked before it went away says nothing.
        if self._away_since is not None and asked > self._away_since:
            if self._told:
                log.warning("the store of limits answers again after %.0f s", asked - self._away_since)
            self._away_since, self._told = None, False
        return found

    def _away(self, error: Exception) -> None:
        now, kind = time.monotonic(), type(error).__name__
        self._ask_from = now + PAUSE_SECONDS
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._said.get(kind, float("-inf")) >= SAY_SECONDS:
            self._said[kind], self._told = now, True
            log.error("requests pass without limits, their store does not answer: %s: %s", kind, error)


def _by_team(slots: Mapping[str, str]) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {}
    for slot, team in slots.items():
        made.setdefault(team, []).append(slot)
    return made


def _key(team: str, what: str) -> str:
    return f"team:{team}:{what}"


def _over(team: str, limit: Limit, name: str, used: int, seconds: int) -> OverLimit:
    allowed = getattr(limit, name)
    said = {
        "requests_per_minute": f"{used:,} of {allowed:,} requests per minute used",
        "tokens_per_minute": f"{used:,} of {allowed:,} tokens per minute used",
        "parallel_requests": f"{used:,} of {allowed:,} requests open at once",
        "token_budget": f"{used:,} of {allowed:,} tokens used, the budget of {limit.budget_seconds:,} s",
    }[name]
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time() + seconds))
    then = {
        "parallel_requests": "the next is let in when one of them ends",
        "token_budget": f"a new budget begins in {seconds:,} s, at {when}",
    }.get(name, f"the next request is let in in {seconds:,} s, at {when}")
    return OverLimit(name, f"team {team} is at its limit {name}: {said}; {then}", seconds)


def _headers(limit: Limit, requests: int, tokens: int) -> dict[str, str]:
    """As OpenAI names them."""
    made = {}
    for what, allowed, left in (
        ("requests", limit.requests_per_minute, requests),
        ("tokens", limit.tokens_per_minute, tokens),
    ):
        if allowed:
            made[f"x-ratelimit-limit-{what}"] = str(allowed)
            made[f"x-ratelimit-remaining-{what}"] = str(max(left, 0))
    return made


LIMITS: Limits | None = None


def install() -> None:
    """Makes the limits of policy.json, where a team has one, and has LiteLLM tell them of answers."""
    global LIMITS
    policy = json.loads((HERE / "policy.json").read_text(encoding="utf-8"))
    if policy.get("limits"):
        import litellm  # type: ignore[import-not-found]

        LIMITS = Limits(_store(), {team: Limit(**limit) for team, limit in policy["limits"].items()})
        litellm.logging_callback_manager.add_litellm_async_success_callback(LIMITS.answered)


def _store() -> Any:
    from redis.asyncio import Redis  # type: ignore[import-not-found]
    from redis.asyncio.retry import Retry  # type: ignore[import-not-found]
    from redis.backoff import NoBackoff  # type: ignore[import-not-found]
    from redis.credentials import CredentialProvider  # type: ignore[import-not-found]
    from redis.exceptions import ConnectionError  # type: ignore[import-not-found]

    class Password(CredentialProvider):
        """Read for each connection, so that another one needs no restart."""

        async def get_credentials_async(self) -> tuple[str]:
            return (Path(os.environ["GATEWAY_STORE_PASSWORD_FILE"]).read_text(encoding="utf-8").strip(),)

    host, _, port = os.environ["GATEWAY_STORE"].rpartition(":")
    return Redis(
        host=host,
        port=int(port),
        credential_provider=Password(),
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
        # Connections from before a restart of the store are found dead when they are used.
        retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionError,)),
    )
