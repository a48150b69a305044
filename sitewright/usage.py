"""What teams have used of a gateway, from the site's PostgreSQL: modules/gateway/llm_gateway_usage.py writes it."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from sitewright.errors import SitewrightError
from sitewright.site import Site
from sitewright.site.service_sections import GatewayDatabase

ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Budget:
    """Of a team. used, of: tokens; ends: of its period, None where none has begun."""

    team: str
    used: int
    of: int
    ends: datetime | None


@dataclass(frozen=True)
class Use:
    """Of a model, by a team, in the days that were asked for."""

    team: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Key:
    """Of a team, by the name of its entry in the Secret: <team>, or <team>.next."""

    team: str
    key: str
    last_used: datetime


def budgets(site: Site) -> list[Budget]:
    """Those of the site file, in its order. Raises: SitewrightError where the database does not answer."""
    teams = {team.name: team.token_budget for team in _teams(site) if team.token_budget}
    rows = _ask(site, "select team, tokens, ends from llm_gateway.budget where ends > now()")
    found = {row["team"]: row for row in rows}
    return [
        Budget(
            team,
            found[team]["tokens"] if team in found else 0,
            of,
            found[team]["ends"] if team in found else None,
        )
        for team, of in teams.items()
    ]


def uses(site: Site, since: date, until: date) -> list[Use]:
    """By team and model, of the days from `since` to `until`, both of them too, UTC.

    Raises: SitewrightError where the database does not answer.
    """
    rows = _ask(
        site,
        "select team, model, sum(requests)::bigint, sum(prompt_tokens)::bigint, sum(completion_tokens)::bigint "
        "from llm_gateway.usage where day between $1 and $2 group by team, model order by team, model",
        since,
        until,
    )
    return [Use(*row) for row in rows]


def keys(site: Site) -> list[Key]:
    """Those that were ever used. Raises: SitewrightError where the database does not answer."""
    statement = (
        "select team, key, max(last_used) from llm_gateway.usage group by team, key order by team, key"
    )
    return [Key(*row) for row in _ask(site, statement)]


def set_used(site: Site, team: str, tokens: int) -> None:
    """Has the budget of a team say that so much of it is used; its period stays.

    Raises: SitewrightError where no period of the team has begun, and where the database does not answer.
    """
    statement = "update llm_gateway.budget set tokens = $2 where team = $1 and ends > now() returning team"
    if not _ask(site, statement, team, tokens):
        raise SitewrightError(
            f"no period of a budget of team {team} has begun: nothing of it is used, and nothing was changed"
        )


def _teams(site: Site) -> Any:
    return site.services.gateway.teams if site.services.gateway else []


def _ask(site: Site, statement: str, *values: Any) -> list[Any]:
    wanted = site.services.gateway.database if site.services.gateway else None
    if wanted is None:
        raise SitewrightError(
            f"{site.name} has no database of a gateway, so nobody keeps what teams use",
            "Give `services.gateway.database` in the site file, then `pulumi up`.",
        )
    return asyncio.run(_answered(site, wanted, lambda connection: connection.fetch(statement, *values)))


async def _answered(
    site: Site, wanted: GatewayDatabase, ask: Callable[[Any], Awaitable[list[Any]]]
) -> list[Any]:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            connection = await _connect(site, wanted)
            try:
                return await ask(connection)
            finally:
                await connection.close()
    except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedTableError):
        return []  # no gateway has been there yet
    except (asyncpg.PostgresError, OSError, TimeoutError) as error:
        where = ", ".join(wanted.addresses)
        raise SitewrightError(
            f"the gateway's database {wanted.name} at {where}: {error or 'no answer within 10 s'}",
            "Check `services.gateway.database` of the site file, and that PostgreSQL runs there.",
        ) from error


async def _connect(site: Site, wanted: GatewayDatabase) -> Any:
    ends = [address.rpartition(":") for address in wanted.addresses]
    reached = [site.operator_endpoint(host, int(port)) for host, _, port in ends]
    return await asyncpg.connect(
        host=[host for host, _ in reached],
        port=[port for _, port in reached],
        database=wanted.name,
        user=wanted.user,
        password=Path(wanted.password_file).read_text(encoding="utf-8").strip(),
        ssl=ssl.create_default_context(cafile=str(wanted.ca_file)),
        target_session_attrs="read-write",
    )
