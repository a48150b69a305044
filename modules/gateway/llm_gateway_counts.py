"""What teams use per minute and at once, as Redis has it: one script for each question, so that replicas do not count
past each other.

Mounted beside llm_gateway_limits.py. All replicas count by the clock of the store. Where it does not answer, the answer
is None within a second, and the log says so once a minute.

    team:<team>:requests, team:<team>:tokens    token buckets: what was left, and when (ms)
    team:<team>:slots                           what is open: slot, and until when (ms)
    charged:<call>                              an answer that has been counted
"""

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

ANSWER_SECONDS = 0.4  # the store takes 1 ms; a request waits twice this at most, to connect and to ask
PAUSE_SECONDS = 1.0  # a store that did not answer is not asked again for so long
LEASE_SECONDS = 30  # a slot of a replica that died is free again after so long
CHARGED_SECONDS = 120  # a call is not counted twice within so long; about 150 bytes each

# `left`: of a bucket that grows by a sixtieth of the limit each second. A clock that is set back takes nothing away.
_BUCKET = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function left(key, limit)
  local was = redis.call('HMGET', key, 'left', 'at')
  local passed = math.max(0, now - (tonumber(was[2]) or now))
  return math.min(limit, (tonumber(was[1]) or limit) + passed * limit / 60000)
end
local function keep(key, limit, left)
  redis.call('HSET', key, 'left', string.format('%.6f', left), 'at', now)
  redis.call('PEXPIRE', key, math.ceil((limit - left) * 60000 / limit) + 1000)
end
"""

# Whether a request may pass; if so, what it takes is taken. Nothing is taken of one limit if another one refuses.
# KEYS: requests, tokens, slots. ARGV: the three limits (0: none), slot, lease in ms.
_ADMIT = f"""{_BUCKET}
local requests, tokens, slots = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local has_requests = requests > 0 and left(KEYS[1], requests) or 0
local has_tokens = tokens > 0 and left(KEYS[2], tokens) or 0
if tokens > 0 and has_tokens < 1 then
  return {{'tokens_per_minute', math.ceil(tokens - has_tokens), math.ceil((1 - has_tokens) * 60000 / tokens)}}
end
if requests > 0 and has_requests < 1 then
  return {{'requests_per_minute', math.ceil(requests - has_requests), math.ceil((1 - has_requests) * 60000 / requests)}}
end
if slots > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  local taken = redis.call('ZCARD', KEYS[3])
  if taken >= slots then return {{'parallel_requests', taken, 1000}} end
  redis.call('ZADD', KEYS[3], now + ARGV[5], ARGV[4])
  redis.call('PEXPIRE', KEYS[3], ARGV[5] * 2)
end
if requests > 0 then keep(KEYS[1], requests, has_requests - 1) end
return {{'', math.floor(has_requests) - 1, math.floor(has_tokens)}}
"""

# An answer is counted, once. KEYS: charged, tokens. ARGV: tokens used, per minute, seconds.
_CHARGE = f"""{_BUCKET}
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[3]) then return 0 end
local limit = tonumber(ARGV[2])
keep(KEYS[2], limit, left(KEYS[2], limit) - tonumber(ARGV[1]))
return 1
"""

# Slots are still taken. KEYS: slots. ARGV: lease in ms, slots.
_HOLD = f"""{_BUCKET}
for place = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[place]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1] * 2)
return 1
"""


class Limit(NamedTuple):
    """Of one team; 0 is no limit."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    parallel_requests: int = 0
    token_budget: int = 0  # it and its period are counted in llm_gateway_usage.py
    budget_seconds: int = 0

    @property
    def counted(self) -> bool:
        """Whether there is something to count in the store."""
        return bool(self.requests_per_minute or self.tokens_per_minute or self.parallel_requests)


class Admission(NamedTuple):
    """refused_by: name of a limit; "" for a request that may pass.

    Of one that may not: first is what is used, second the ms until it is worth to ask again.
    Of one that may: what is left of requests and tokens.
    """

    refused_by: str
    first: int
    second: int


class Counts:
    """The counts of a store that may be away. redis: a client of redis.asyncio; outage: of llm_gateway_outage.py."""

    def __init__(self, redis: Any, outage: Any) -> None:
        self._redis, self._outage = redis, outage
        self._ask_from = float("-inf")

    async def admit(self, team: str, limit: Limit, slot: str) -> Admission | None:
        """Takes what a request takes. slot: a name of the request."""
        keys = [_key(team, what) for what in ("requests", "tokens", "slots")]
        limits = limit.requests_per_minute, limit.tokens_per_minute, limit.parallel_requests
        found = await self._run(_ADMIT, keys, *limits, slot, LEASE_SECONDS * 1000)
        return None if found is None else Admission(found[0].decode(), int(found[1]), int(found[2]))

    async def charge(self, call: str, team: str, limit: Limit, tokens: int) -> bool | None:
        """Counts the tokens of an answer; nothing where it has counted this call before."""
        keys = [f"charged:{call}", _key(team, "tokens")]
        found = await self._run(_CHARGE, keys, tokens, limit.tokens_per_minute, CHARGED_SECONDS)
        return None if found is None else bool(found)

    async def hold(self, team: str, slots: Iterable[str]) -> None:
        """What is open stays so for another lease."""
        await self._run(_HOLD, [_key(team, "slots")], LEASE_SECONDS * 1000, *slots)

    async def free(self, team: str, slots: Iterable[str]) -> bool | None:
        found = await self._ask("ZREM", _key(team, "slots"), *slots)
        return None if found is None else True

    async def look(self) -> None:
        """So that the log says when the store is away and when it is back."""
        await self._ask("PING")

    async def _run(self, script: str, keys: list[str], *values: Any) -> Any:
        return await self._ask("EVAL", script, len(keys), *keys, *values)

    async def _ask(self, *command: Any) -> Any:
        asked = time.monotonic()
        if asked < self._ask_from:
            return None
        try:
            # Not wait_for, which in Python 3.11 loses a cancellation that comes with the answer.
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                found = await self._redis.execute_command(*command)
        except Exception as error:
            self._ask_from = time.monotonic() + PAUSE_SECONDS
            self._outage.began(error)
            return None
        self._outage.answered(asked)
        return found


def _key(team: str, what: str) -> str:
    return f"team:{team}:{what}"


def connected() -> Counts:
    """The store that the container's variables name. Nothing is connected before it is asked."""
    from llm_gateway_outage import Outage  # type: ignore[import-not-found]
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
    redis = Redis(
        host=host,
        port=int(port),
        credential_provider=Password(),
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
        # Connections from before a restart of the store are found dead when they are used.
        retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionError,)),
    )
    away = "requests pass without limits, their store does not answer"
    return Counts(redis, Outage(away, "the store of limits answers again"))
