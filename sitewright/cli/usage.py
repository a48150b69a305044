"""`sitewright usage`: what teams have used of a gateway, and what is left of their budgets."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import click
from rich.table import Table

from sitewright import usage as used
from sitewright.cli.console import console
from sitewright.errors import SitewrightError
from sitewright.site import load

_DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.group()
def usage() -> None:
    """See what teams have used of a gateway, and give them more.

    \b
    Needs `services.gateway.database` in the site file.
    """


@usage.command()
@click.argument("environment")
@click.option("--since", type=_DAY, help="First day, UTC. Default: the first of this month.")
@click.option("--until", type=_DAY, help="Last day, UTC. Default: today.")
@click.option("--team", help="Only this team.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for other programs.")
def show(
    environment: str, since: datetime | None, until: datetime | None, team: str | None, as_json: bool
) -> None:
    """Show budgets, requests and tokens by team and model, and when each key was used last. Changes nothing.

    \b
    Exit status: 0, also where nothing was used; 1 where the database does not answer.
    Example:     sitewright usage show lab --since 2026-11-01 --team demo
    """
    site, today = load(environment), datetime.now(UTC).date()
    first = since.date() if since else today.replace(day=1)
    last = until.date() if until else today
    if first > last:
        raise SitewrightError(
            f"--since {first} is after --until {last}", "Name the first day and the last one."
        )
    budgets = [one for one in used.budgets(site) if team in (None, one.team)]
    uses = [one for one in used.uses(site, first, last) if team in (None, one.team)]
    keys = [one for one in used.keys(site) if team in (None, one.team)]
    if as_json:
        made = {
            "since": str(first),
            "until": str(last),
            "budgets": [
                {**asdict(one), "ends": one.ends.isoformat() if one.ends else None} for one in budgets
            ],
            "uses": [asdict(one) for one in uses],
            "keys": [{**asdict(one), "last_used": one.last_used.isoformat()} for one in keys],
        }
        click.echo(json.dumps(made, indent=2))
        return
    if budgets:
        console().print(_budgets_table(budgets))
    if uses:
        console().print(_uses_table(uses))
    else:
        click.echo(f"Nothing was used from {first} to {last}.")
    if keys:
        console().print(_keys_table(keys))


@usage.command("set-used")
@click.argument("environment")
@click.argument("team")
@click.argument("tokens", type=click.IntRange(0, 10**15))
@click.option("--dry-run", is_flag=True, help="Say what would change.")
def set_used(environment: str, team: str, tokens: int, dry_run: bool) -> None:
    """Have the budget of TEAM say that TOKENS of it are used. Its period stays, and so does what was used by day.

    The gateway knows within a second. To give a team more for good, change token_budget in the site file.

    \b
    Exit status: 0; 1 where no period of the team has begun, or the database does not answer.
    Example:     sitewright usage set-used lab demo 0
    """
    site = load(environment)
    found = next((one for one in used.budgets(site) if one.team == team), None)
    if found is None:
        raise SitewrightError(
            f"team {team} has no budget in {site.name}",
            "`sitewright usage show` lists the teams that have one.",
        )
    if not dry_run:
        used.set_used(site, team, tokens)
    click.echo(
        f"{team}: {found.used:,} → {tokens:,} of {found.of:,} tokens" + "; nothing was changed" * dry_run
    )
    if not dry_run:
        click.echo(f"To go back: sitewright usage set-used {environment} {team} {found.used}")


def _budgets_table(budgets: list[used.Budget]) -> Table:
    table = Table("budget of", box=None)
    for name in ("used", "of", "%"):
        table.add_column(name, justify="right")
    table.add_column("begins anew")
    for one in budgets:
        left = one.ends - datetime.now(UTC) if one.ends else None
        when = (
            f"{one.ends:%Y-%m-%d %H:%M} UTC, in {_roughly(left)}"
            if one.ends and left
            else "with the next answer"
        )
        table.add_row(one.team, f"{one.used:,}", f"{one.of:,}", f"{100 * one.used / one.of:.1f}", when)
    return table


def _uses_table(uses: list[used.Use]) -> Table:
    table = Table("team", "model", box=None)
    for name in ("requests", "prompt tokens", "completion tokens"):
        table.add_column(name, justify="right")
    for one in uses:
        numbers = (one.requests, one.prompt_tokens, one.completion_tokens)
        table.add_row(one.team, one.model, *(f"{number:,}" for number in numbers))
    return table


def _keys_table(keys: list[used.Key]) -> Table:
    table = Table("key", "last used", box=None)
    for one in keys:
        table.add_row(one.key, f"{one.last_used:%Y-%m-%d %H:%M} UTC")
    return table


def _roughly(left: timedelta) -> str:
    hours = left.total_seconds() / 3600
    return (
        f"{hours / 24:.0f} days"
        if hours >= 48
        else f"{hours:.0f} h"
        if hours >= 2
        else f"{hours * 60:.0f} min"
    )
