"""`sitewright lab`: the one-machine site."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from lab import deploy as deployment
from lab import down as teardown
from lab import reach
from lab import status as report
from lab import up as bring_up
from lab.checks import require_root
from lab.plan import LabPlan
from lab.stages import Stages, as_json


@click.group()
@click.option("-e", "--environment", default="lab", show_default=True, help="Name or path of the site file.")
@click.pass_context
def lab(context: click.Context, environment: str) -> None:
    """A whole site on this machine: what a real site already owns is stood in for. Needs root."""
    context.obj = environment


@lab.command()
@click.option("--deploy", is_flag=True, help="Then deploy the site into it with Pulumi, and ask the model.")
@click.option(
    "--timings", type=click.Path(dir_okay=False, path_type=Path), help="Write seconds per stage, as JSON."
)
@click.pass_obj
def up(environment: str, deploy: bool, timings: Path | None) -> None:
    """Start the lab, or complete one that is partly there. Safe to run again at any time.

    \b
    Changes: network namespaces sitewright-lab*, control groups sitewright-lab, the lab's state directory.
    Nothing is made where this machine cannot run it (no root, a port in use, too little memory or disk).
    Exit status: 0 all services answer, 1 a problem (printed), 2 problems in the site file.
    Example:     sitewright lab up
    """
    plan = LabPlan.of(environment)
    with Stages() as stages:
        try:
            if deploy:
                result = deployment.deploy(plan, stages)
            else:
                bring_up.up(plan, stages)
                result = _ready(plan)
        finally:
            if timings:
                timings.write_text(as_json(stages) + "\n")
    click.echo(result)


@lab.command()
@click.option("--keep", is_flag=True, help="Leave the files: disks, registry, keys, Pulumi's state.")
@click.option(
    "--state-dir", type=click.Path(path_type=Path), help="Instead of reading it from the site file."
)
@click.pass_obj
def down(environment: str, keep: bool, state_dir: Path | None) -> None:
    """Stop the lab and remove everything it made, also after a crash. Caches in ~/.cache stay.

    \b
    Changes: ends every process of the lab, removes its mounts, loop devices, namespaces, control groups and
             its state directory with all that was deployed. `--keep` leaves the directory.
    Exit status: 0 nothing of the lab is left, 1 something is (printed).
    Example:     sitewright lab down
    """
    require_root()
    if state_dir:
        os.environ["SITEWRIGHT_LAB_STATE_DIR"] = str(state_dir.absolute())
    else:
        LabPlan.of(environment)
    with Stages() as stages:
        teardown.down(stages, keep)
    click.echo("The lab is down." if keep else "Nothing of the lab is left.")
    click.echo("Next: sitewright lab up")


@lab.command()
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def status(environment: str, as_json_: bool) -> None:
    """Show services, machines and published ports. Reads only, changes nothing.

    \b
    Exit status: 0 the lab is up, 3 it is down or some service does not run.
    Example:     sitewright lab status --json
    """
    found = report.status(LabPlan.of(environment))
    click.echo(json.dumps(found.plain(), indent=2)) if as_json_ else _print_status(found)
    if found.state != "up":
        raise SystemExit(3)


@lab.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on as lines are added; Ctrl-C ends.")
@click.option("-n", "--lines", default=100, show_default=True, help="How many lines back.")
@click.pass_obj
def logs(environment: str, name: str, follow: bool, lines: int) -> None:
    """Print the log of service NAME, or the console of machine NAME. Reads only, changes nothing.

    \b
    Exit status: 0, 1 for an unknown name.
    Example:     sitewright lab logs hypervisor -f
    """
    file = reach.log_file(LabPlan.of(environment), name)
    command = ["tail", f"--lines={lines}", *(["--follow=name", "--retry"] if follow else []), str(file)]
    os.execvp(command[0], command)


@lab.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def ssh(environment: str, name: str, command: tuple[str, ...]) -> None:
    """Log in on machine NAME (a VM or an xname), or run COMMAND there. Changes nothing by itself.

    \b
    Exit status: that of COMMAND; 255 where the machine cannot be reached; 1 for an unknown name.
    Example:     sitewright lab ssh svc-cp uptime
    """
    line = reach.ssh_command(LabPlan.of(environment), name, command)
    os.execvp(line[0], line)


@lab.command()
@click.pass_obj
def env(environment: str) -> None:
    """Print what a shell needs to run Pulumi by hand on this lab. Reads only, changes nothing.

    \b
    Exit status: 0.
    Example:     eval "$(sitewright lab env)" && pulumi preview -s lab
    """
    click.echo("\n".join(deployment.exports(LabPlan.of(environment))))


def _ready(plan: LabPlan) -> str:
    return f"The lab is up ({plan.state}).\nNext: sitewright lab status, or sitewright lab up --deploy"


def _print_status(found: report.Status) -> None:
    console = Console()
    console.print(f"The lab is {found.state}.")
    if found.services:
        console.print(
            _table(
                ("service", "state", "for"),
                [(s.name, s.state.lower(), _age(s.seconds)) for s in found.services],
            )
        )
    rows = [
        (
            m.name,
            m.kind,
            m.state,
            m.address,
            _age(m.seconds),
            f"{m.memory / 2**30:.1f} of {m.memory_limit / 2**30:.0f} GiB",
        )
        for m in found.machines
    ]
    console.print(_table(("machine", "kind", "state", "address", "for", "memory"), rows))
    console.print(
        _table(
            ("port on 127.0.0.1", "name", "leads to"),
            [(str(p.port), p.name, ", ".join(p.to)) for p in found.ports],
        )
    )


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    return table


def _age(seconds: int) -> str:
    if not seconds:
        return ""
    minutes, rest = divmod(seconds, 60)
    return (
        f"{minutes // 60} h {minutes % 60} min"
        if minutes >= 60
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )
