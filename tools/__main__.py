"""`python -m tools`: build the pinned programs, or say where one is."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType
from typing import NoReturn

import click

from sitewright.errors import SitewrightError
from tools.build import Builder, Plan
from tools.locate import bin_dir, tool
from tools.progress import Lines, Screen


@click.group()
def main() -> None:
    """The programs sitewright runs, built from pinned Go modules."""


@main.command()
@click.option("--dry-run", is_flag=True, help="Print what would be built and used; change nothing.")
@click.option("--ignore-space", is_flag=True, help="Start even when the disk looks too small.")
def build(dry_run: bool, ignore_space: bool) -> None:
    """Fill the bin directory below ~/.cache/sitewright/tools.

    The first build takes 25 to 30 minutes on 2 cores; after that nothing happens while the pins stay.
    Programs of an official Pulumi on PATH and of the directories in SITEWRIGHT_TOOLS are used when their
    version fits. Interrupt it at any time; the next run goes on where it was.

    Exit status: 0 complete, 1 a problem (printed), 130 interrupted.
    """
    signal.signal(signal.SIGTERM, _as_interrupt)
    builder = Builder(progress=Screen() if sys.stdout.isatty() else Lines())
    if dry_run:
        click.echo(describe(builder.plan()))
        return
    started = time.monotonic()
    try:
        directory = builder.build(ignore_space)
    except KeyboardInterrupt:
        builder.progress.stop()
        click.echo("interrupted; `python -m tools build` goes on where it was", err=True)
        sys.exit(130)
    finally:
        builder.progress.stop()
    click.echo(f"{directory} is complete ({time.monotonic() - started:.0f} s)")


@main.command()
def prune() -> None:
    """Remove programs of other pins than this checkout's. Exit status: 0."""
    for path in Builder().prune():
        click.echo(f"removed {path}")


@main.command()
@click.argument("program", required=False)
def where(program: str | None) -> None:
    """Print the path of PROGRAM, or of the bin directory. Exit status 1 when it is not built."""
    click.echo(tool(program) if program else bin_dir())


def describe(plan: Plan) -> str:
    """What a build would do, one line per fact."""
    if plan.complete:
        return f"{plan.directory} is complete; nothing to build"
    lines = [f"{plan.directory} would be made:"]
    lines += [f"  use    {f.name} {f.version} from {f.path}" for f in plan.found.values()]
    lines += [f"  leave  {refused.path}: {refused.reason}" for refused in plan.refused]
    for module, programs in plan.to_build:
        names = ", ".join(f"{program.name} {program.version}" for program in programs)
        lines.append(f"  build  module {module.name} (up to {module.minutes:g} min): {names}")
    return "\n".join(lines)


def _as_interrupt(signal_number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        main()
    except SitewrightError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
