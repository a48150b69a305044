"""`python -m tests.bench`: measures, and prints one JSON line per figure."""

from collections.abc import Callable, Iterator
from pathlib import Path

import click

from sitewright.errors import SitewrightError
from tests.bench import lab_runs, report, serving, under_load
from tests.bench.declare import declare
from tests.bench.figure import Figure, progress
from tests.bench.hostlists import hostlist
from tests.bench.idle import idle
from tests.bench.image_build import image
from tests.bench.image_fetch import fetch
from tests.bench.power_on import nodes
from tests.bench.preview import preview

Measure = Callable[[], Iterator[Figure]]
# In this order, since each leaves the lab as the next one needs it.
MEASURES = (
    *("hostlist", "declare", "preview", "image", "fetch", "cold", "warm", "nodes", "noop", "idle"),
    *("gateway", "availability", "hand_over", "training"),
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", metavar="NAMES", help=f"Some of {', '.join(MEASURES)}, separated by commas.")
@click.option("--cold", is_flag=True, help="Also from empty caches: 30 minutes and more.")
@click.option(
    "--report", "html", type=click.Path(dir_okay=False), help="Also write a page with all figures here."
)
@click.option("--idle-seconds", default=60.0, show_default=True, help="How long the idle lab is watched.")
@click.pass_context
def main(context: click.Context, only: str | None, cold: bool, html: str | None, idle_seconds: float) -> None:
    """Print the figures of sitewright as JSON lines; what it does meanwhile goes to standard error.

    \b
    hostlist  3,000 nodes expanded and folded, beside ClusterShell
    declare   1 to 3,000 nodes declared to the provisioner, beside a loop of curl (10 minutes)
    preview   `pulumi preview` of example-alps, without any cluster
    image     a boot image built from nothing and after one line changed, beside a plain script (15 minutes, root)
    fetch     an image to 1 to 64 nodes over limited links, from 1 to 4 servers, beside curl (4 minutes, root)
    cold      `sitewright lab up --deploy` from empty caches (only with --cold)
    warm      the same with full caches, from no lab
    nodes     power-on to Ready, from the runs recorded last
    noop      the same when everything is up
    idle      cores and memory of the lab at rest
    gateway   what our gateway adds to an answer, beside LiteLLM and vllm-router alone (35 minutes)
    availability  failed requests at update, drain, scaling; recovery from a power cut and a hang (15 minutes)
    hand_over     an adapter from its run to all users and back (15 minutes)
    training      what a power cut costs a run, and a pod beside a plain process (10 minutes)

    \b
    Changes: `cold` and `warm` TAKE DOWN THE LAB with all that was deployed, and need root; `warm` leaves a
             new one up. `availability`, `hand_over` and `training` break and change the lab, and put it back. The
             others change nothing, where the lab is as its site file says.
    Exit status: 0, 1 when a measurement failed (the others are made), 2 for an unknown name.
    Example:     python -m tests.bench --only hostlist,preview,idle
    """
    wanted = chosen(only, cold)
    measures: dict[str, Measure] = {
        "hostlist": hostlist,
        "declare": declare,
        "preview": preview,
        "image": image,
        "fetch": fetch,
        "cold": lab_runs.cold,
        "warm": lab_runs.warm,
        "nodes": nodes,
        "noop": lab_runs.noop,
        "idle": lambda: idle(idle_seconds),
        "gateway": serving.gateway,
        "availability": under_load.availability,
        "hand_over": under_load.hand_over,
        "training": under_load.training,
    }
    figures: list[Figure] = []
    failed = [name for name in wanted if not measured(name, measures[name], figures)]
    if html:
        report.write(Path(html), figures)
    if failed:
        progress(f"failed: {', '.join(failed)}")
        context.exit(1)


def chosen(only: str | None, cold: bool) -> list[str]:
    """The measures to make, in their order. `cold` has to be asked for by its flag, also where it is named."""
    names = {name.strip() for name in only.split(",")} if only else set(MEASURES) - {"cold"}
    if unknown := names - set(MEASURES):
        raise click.UsageError(
            f"no such measure: {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}"
        )
    if "cold" in names and not cold:
        raise click.UsageError("`cold` takes 30 minutes and more: add --cold to say that you mean it")
    return [name for name in MEASURES if name in names or (name == "cold" and cold)]


def measured(name: str, measure: Measure, figures: list[Figure]) -> bool:
    """Print what is measured as it comes, and add it to the figures; False where it went wrong."""
    try:
        for figure in measure():
            figures.append(figure)
            print(figure.line(), flush=True)
    except SitewrightError as problem:
        progress(f"{name}: {problem}")
        return False
    return True


if __name__ == "__main__":
    main(prog_name="python -m tests.bench")
