"""`sitewright runs`: what the playbooks of this checkout did, from the artifacts that PlaybookRun leaves."""

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import click
from rich.table import Table

from sitewright.cli.console import console
from sitewright.errors import SitewrightError
from sitewright.provider.artifacts import RunRecord, read_runs, runs_directory
from sitewright.provider.repository import find_repository

_SLOWEST = 10
_STYLES = {"ok": "green", "running": "cyan"}


@click.group()
def runs() -> None:
    """Look at the recorded runs of playbooks. Reads only, changes nothing."""


@runs.command(name="list")
@click.option("--environment", "-e", help="Only runs on this environment.")
@click.option("--failed", is_flag=True, help="Only runs that did not end well.")
def list_(environment: str | None, failed: bool) -> None:
    """List the recorded runs, newest last. Reads only, changes nothing.

    \b
    Exit status: 0, also when there is none.
    Example:     sitewright runs list --environment lab --failed
    """
    found = select(_all_runs(), environment, failed)
    if not found:
        click.echo("No runs recorded here. `pulumi up` records one for each playbook it runs.")
        return
    console().print(_table(found))
    click.echo(f"Next: sitewright runs show {found[-1].run}")


@runs.command()
@click.argument("run", required=False)
@click.option("--environment", "-e", help="Without RUN: the newest run on this environment.")
@click.option("--log", is_flag=True, help="Print the whole log of Ansible as well.")
def show(run: str | None, environment: str | None, log: bool) -> None:
    """Show one run: RUN by its name or the start of it, or the newest. Reads only, changes nothing.

    \b
    Exit status: 0, or 1 where there is no such run.
    Example:     sitewright runs show --environment lab --log
    """
    record = find(_all_runs(), run, environment)
    directory = runs_directory(find_repository(Path.cwd())) / record.run
    terminal = console()
    for name, value in _facts(record):
        terminal.print(f"[bold]{name + ':':13}[/bold]", end="")
        terminal.print(value, markup=False)
    if record.hosts:
        terminal.print(_hosts_table(record))
    if slowest := slowest_tasks((directory / "events.jsonl").read_text().splitlines(), _SLOWEST):
        terminal.print(_tasks_table(slowest))
    if record.failure:
        terminal.print(record.failure, style="red", markup=False)
    if log:
        click.echo((directory / "log.txt").read_text())
    else:
        click.echo(f"Next: sitewright runs show {record.run} --log")


def select(records: Iterable[RunRecord], environment: str | None, failed: bool = False) -> list[RunRecord]:
    """Runs of one environment (None for all); `failed` leaves those that neither run nor went well."""
    return [
        record
        for record in records
        if environment in (None, record.environment) and not (failed and record.status in ("ok", "running"))
    ]


def find(records: list[RunRecord], run: str | None, environment: str | None) -> RunRecord:
    """The newest run whose name starts with `run`. Raises: SitewrightError where there is none."""
    matches = [record for record in select(records, environment) if record.run.startswith(run or "")]
    exact = [record for record in matches if record.run == run]
    if matches:
        return (exact or matches)[-1]
    what = f"no run {run!r}" if run else "no run"
    where = f" on environment {environment!r}" if environment else ""
    raise SitewrightError(f"{what} is recorded{where}", "`sitewright runs list` shows those that are.")


def slowest_tasks(events: Iterable[str], count: int) -> list[tuple[str, str, float]]:
    """The tasks that took longest, with the host that took longest and its seconds, slowest first."""
    longest: dict[str, tuple[str, float]] = {}
    for line in events:
        event = json.loads(line)
        if event["seconds"] > longest.get(event["task"], ("", 0.0))[1]:
            longest[event["task"]] = (event["host"], event["seconds"])
    tasks = [(task, host, seconds) for task, (host, seconds) in longest.items()]
    return sorted(tasks, key=lambda entry: -entry[2])[:count]


def _all_runs() -> list[RunRecord]:
    return read_runs(runs_directory(find_repository(Path.cwd())))


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    return [
        ("run", record.run),
        ("playbook", f"{record.playbook} ({record.action})"),
        ("environment", record.environment or "none (localhost)"),
        *([("limit", record.limit)] if record.limit else []),
        ("status", record.status + (", something changed" if record.changed else "")),
        ("started", record.started),
        ("seconds", f"{record.seconds:.1f}"),
        *([("digest", record.digest)] if record.digest else []),
    ]


def _table(records: list[RunRecord]) -> Table:
    table = Table(box=None)
    for name in ("run", "environment", "playbook", "status", "changed", "started"):
        table.add_column(name, no_wrap=name in ("run", "started"))
    table.add_column("seconds", justify="right")
    for record in records:
        table.add_row(
            record.run,
            record.environment or "-",
            record.playbook.removeprefix("playbooks/"),
            f"[{_STYLES.get(record.status, 'red')}]{record.status}",
            "yes" if record.changed else "no",
            f"{datetime.fromisoformat(record.started).astimezone():%d %b %H:%M:%S}",
            f"{record.seconds:.1f}",
        )
    return table


def _hosts_table(record: RunRecord) -> Table:
    names = ("ok", "changed", "failures", "unreachable", "skipped", "rescued", "ignored")
    table = Table("host", box=None)
    for name in names:
        table.add_column(name, justify="right")
    for host, stats in record.hosts.items():
        table.add_row(host, *(str(stats.get(name, 0)) for name in names))
    return table


def _tasks_table(tasks: list[tuple[str, str, float]]) -> Table:
    table = Table("slowest tasks", "host", box=None)
    table.add_column("seconds", justify="right")
    for task, host, seconds in tasks:
        table.add_row(task, host, f"{seconds:.1f}")
    return table
