"""How `sitewright tune` shows runs: the table, the line that is followed, and what they say of a run that waits."""

import time
from collections.abc import Iterable

import click
from rich.console import Console
from rich.table import Table

from sitewright.errors import SitewrightError
from sitewright.tuning import progress, runs
from sitewright.tuning.cluster import Cluster, JobState

POLL = 1.0  # seconds between two looks at a run that is followed
HOUR = 3_600
_STYLES = {"finished": "green", "running": "cyan", "failed": "red", "preempted": "yellow"}


def print_table(found: Iterable[runs.Run], states: dict[str, JobState]) -> None:
    """The runs, and below them what the cluster says of those that wait or failed."""
    table = Table(*("run", "model", "state", "step", "loss", "left"), box=None, pad_edge=False)
    reasons = []
    for run in found:
        state = state_of(run, states)
        now = progress.read(run.progress)
        table.add_row(
            run.id,
            str(run.request.get("model", "")),
            f"[{_STYLES.get(state.state, 'default')}]{state.state}[/]",
            f"{now.step}/{now.steps}" if now else "",
            f"{now.loss:.4f}" if now else "",
            _duration(now.eta) if now and state.state == "running" else "",
        )
        reasons += [f"{run.id} {state.state}: {state.reason}"] if state.reason else []
    Console().print(table)
    for reason in reasons:
        click.echo(reason)


def state_of(run: runs.Run, states: dict[str, JobState]) -> JobState:
    """A Job may be gone, of a run that ended or was cancelled."""
    if run.record is not None:
        return JobState("finished")
    return states.get(run.id, JobState("cancelled"))


def follow(cluster: Cluster, run: runs.Run) -> None:
    """One line whenever something is new, until the run ends."""
    last = ""
    while True:
        state = state_of(run, cluster.states())
        line = line_of(run, state)
        if line != last:
            click.echo(line)
            last = line
        if state.state == "finished":
            return
        if state.state in ("failed", "cancelled"):
            click.echo(cluster.log(run.id, 20), nl=False, err=True)
            raise SitewrightError(f"{run.id} {state.state} {state.reason}".rstrip())
        time.sleep(POLL)


def line_of(run: runs.Run, state: JobState) -> str:
    now = progress.read(run.progress)
    why = f": {state.reason}" if state.reason else ""
    if now is None:
        return f"{run.id}: {state.state}{why}"
    left = _duration(now.eta) if state.state == "running" else ""
    where = f"step {now.step} of {now.steps}, loss {now.loss:.4f}"
    return f"{run.id}: {state.state}, {where}{f', {left} left' if left else ''}{why}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    whole = round(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min" if whole < 7200 else f"{whole / HOUR:.1f} h"
