"""What a team may use of the gateway: requests and tokens per minute, requests at once, a budget of tokens.

Mounted beside llm_gateway_auth.py, which asks `Limits.admit`; LiteLLM tells `Limits.answered` of each answer. Counts
are in llm_gateway_counts.py, what was used of budgets is known to llm_gateway_usage.py. Where the store of counts does
not answer, requests pass: a model that serves without limits for a while is worth more than one that serves nobody.

Requests and tokens per minute are token buckets. What an answer costs is known at its end only, so tokens may fall
below zero; the team then waits until they have grown back. LiteLLM 1.110.2 has a limiter of its own
(proxy/hooks/parallel_request_limiter_v3.py). It knows no budget of tokens, writes a `max_tokens` of its own into
requests of teams with small limits, and always says 60 s.
"""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

HOLD_SECONDS = 5.0  # a lease of llm_gateway_counts.py is six times as long
MOST_OWED = 10_000  # answers remembered for a store that is away
log = logging.getLogger("sitewright.gateway")


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
    """counts: of llm_gateway_counts.py, where a team has a limit per minute or at once; usage: of llm_gateway_usage.py,
    where one has a budget; teams: `Limit` of each."""

    def __init__(self, counts: Any, usage: Any, teams: Mapping[str, Any]) -> None:
        self._counts, self._usage, self._teams = counts, usage, teams
        self._open: dict[str, str] = {}  # slot: team
        self._freed: dict[str, str] = {}  # slots whose end the store has not heard of
        self._owed: dict[str, Answer] = {}  # answers it has not counted, by the id of the call
        self._settling = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Meets the store before the first request does, and holds slots from now on."""
        if self._counts is not None:
            await self._counts.look()
            self._keeper = asyncio.create_task(self._keep_forever())

    async def admit(self, team: str) -> Permit:
        """Takes what a request takes, or nothing where the team has no limit or the store does not answer.

        Raises: OverLimit.
        """
        limit = self._teams.get(team)
        if limit is not None and limit.token_budget:
            self._within_budget(team, limit)
        if limit is None or not limit.counted:
            return Permit({}, lambda: None)
        slot = uuid.uuid4().hex
        if limit.parallel_requests:
            # Also where the store is away: it learns of what is open when it is back.
            self._open[slot] = team
        try:
            found = await self._counts.admit(team, limit, slot)
        except BaseException:
            self._release(slot)
            raise
        if found is None:
            return Permit({}, lambda: self._release(slot))
        if found.refused_by:
            self._open.pop(slot, None)
            raise _over(team, limit, found.refused_by, found.first, found.second / 1000)
        return Permit(_headers(limit, found), lambda: self._release(slot))

    def _within_budget(self, team: str, limit: Any) -> None:
        spent = self._usage.spent(team)
        if spent.tokens >= limit.token_budget:
            raise _over(team, limit, "token_budget", spent.tokens, spent.ends - time.monotonic())

    def _release(self, slot: str) -> None:
        team = self._open.pop(slot, None)
        if team is not None:
            self._freed[slot] = team
            task = asyncio.ensure_future(self._free())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _free(self) -> None:
        for team, slots in _by_team(self._freed).items():
            if await self._counts.free(team, slots):
                for slot in slots:
                    self._freed.pop(slot, None)

    async def answered(self, kwargs: Any, _response: Any, _start: Any, _end: Any) -> None:
        """LiteLLM's hook, after each answer; after a stream that its client left too, with what had been produced."""
        logged = kwargs.get("standard_logging_object") or {}
        team = str((logged.get("metadata") or {}).get("user_api_key_team_id"))
        limit = self._teams.get(team)
        tokens = int(logged.get("total_tokens") or 0)
        if limit is None or not tokens or not limit.tokens_per_minute:
            return
        if len(self._owed) < MOST_OWED:
            self._owed[str(kwargs.get("litellm_call_id") or uuid.uuid4().hex)] = Answer(team, tokens)
        await self._settle()

    async def _settle(self) -> None:
        """Has the store count what it has not yet. What it may have counted without our hearing of it is sent again."""
        async with self._settling:
            for call, answer in list(self._owed.items()):
                limit = self._teams[answer.team]
                if await self._counts.charge(call, answer.team, limit, answer.tokens) is None:
                    return
                self._owed.pop(call, None)

    async def _keep_forever(self) -> None:
        while True:
            try:
                await self._keep()
            except Exception:
                log.exception("the slots of open requests were not held")
            await asyncio.sleep(HOLD_SECONDS)

    async def _keep(self) -> None:
        for team, slots in _by_team(self._open).items():
            await self._counts.hold(team, slots)
            # One that ended meanwhile was perhaps freed first and then held.
            self._freed |= {slot: team for slot in slots if slot not in self._open}
        await self._free()
        await self._settle()
        await self._counts.look()


def _by_team(slots: Mapping[str, str]) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {}
    for slot, team in slots.items():
        made.setdefault(team, []).append(slot)
    return made


def _over(team: str, limit: Any, name: str, used: int, free_in: float) -> OverLimit:
    """free_in: seconds."""
    allowed, seconds = getattr(limit, name), max(1, math.ceil(free_in))
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


def _headers(limit: Any, found: Any) -> dict[str, str]:
    """As OpenAI names them."""
    made = {}
    for what, allowed, left in (
        ("requests", limit.requests_per_minute, found.first),
        ("tokens", limit.tokens_per_minute, found.second),
    ):
        if allowed:
            made[f"x-ratelimit-limit-{what}"] = str(allowed)
            made[f"x-ratelimit-remaining-{what}"] = str(max(left, 0))
    return made


LIMITS: Limits | None = None


def install(usage: Any, limits: Mapping[str, Mapping[str, int]]) -> None:
    """Where a team has a limit: makes them, and has LiteLLM tell them of answers.

    usage: of llm_gateway_usage.py, or None; limits: those that are set, by team.
    """
    global LIMITS
    if limits:
        import litellm  # type: ignore[import-not-found]
        import llm_gateway_counts  # type: ignore[import-not-found]

        teams = {team: llm_gateway_counts.Limit(**limit) for team, limit in limits.items()}
        counted = any(limit.counted for limit in teams.values())
        LIMITS = Limits(llm_gateway_counts.connected() if counted else None, usage, teams)
        litellm.logging_callback_manager.add_litellm_async_success_callback(LIMITS.answered)


async def begin() -> None:
    """Of the limits that were installed, if any."""
    if LIMITS is not None:
        await LIMITS.begin()
