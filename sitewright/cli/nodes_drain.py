"""`sitewright nodes drain`: pods leave nodes, and may come back."""

import time

import click
from rich.table import Table

from sitewright.cli.console import console
from sitewright.errors import SitewrightError
from sitewright.kubernetes_api import load_kubeconfig
from sitewright.lifecycle.cluster_node import read, uncordon
from sitewright.lifecycle.drain import Drain, Left, budget_says, require_owners
from sitewright.lifecycle.pods import pods_of
from sitewright.provisioning.node_states import chosen
from sitewright.site import load
from sitewright.site.hostlist import fold


@click.command()
@click.argument("environment")
@click.argument("hostlist")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=1800.0,
    show_default=True,
    help="Seconds until all pods must be gone.",
)
@click.option("--force", is_flag=True, help="Also pods that nobody makes again.")
@click.option("--dry-run", is_flag=True, help="Say what would go; change nothing.")
@click.option("--undo", is_flag=True, help="Let pods come back: the nodes take new ones again.")
def drain(environment: str, hostlist: str, timeout: float, force: bool, dry_run: bool, undo: bool) -> None:
    """Keep new pods off the nodes of HOSTLIST, and have those that run there go elsewhere.

    \b
    Changes: the nodes are cordoned, and stay so; their pods are evicted. Disruption budgets are waited for, and pods
             have the time to end that they ask for. Those of DaemonSets, of the kubelet and those that ended stay.
    Stopped or failed, it leaves the nodes cordoned; the same command again goes on, --undo takes it back.
    Exit status: 0 the pods are gone, 1 some are left (each is named, with the reason), 2 wrong arguments.
    Example:     sitewright nodes drain lab x1000c0s0b0n0
    """
    if undo and (dry_run or force):
        raise click.UsageError("--undo goes with neither --dry-run nor --force.")
    names = [node.xname for node in chosen(load(environment), hostlist)]
    load_kubeconfig()
    for name in names:
        read(name)
    if undo:
        _give_back(names)
    elif dry_run:
        _print_plan(names)
    else:
        _drain(environment, names, timeout, force)


def _give_back(names: list[str]) -> None:
    for name in names:
        uncordon(name)
        click.echo(f"{name}: takes pods again")


def _print_plan(names: list[str]) -> None:
    table = Table("node", "pod", "of", "would", "remark", box=None, pad_edge=False)
    for pod in (pod for name in names for pod in pods_of(name)):
        if pod.stays:
            table.add_row(pod.node, str(pod), pod.owner or "-", "stay", pod.stays)
            continue
        remarks = [f"has {pod.grace} s to end"]
        remarks += ["loses its emptyDir"] if pod.scratch else []
        remarks += [] if pod.owner else ["nobody makes it again: needs --force"]
        remarks += [said] if (said := budget_says(pod)) else []
        table.add_row(pod.node, str(pod), pod.owner or "-", "go", "; ".join(remarks))
    console().print(table)


def _drain(environment: str, names: list[str], timeout: float, force: bool) -> None:
    if not force:
        require_owners(names)
    started = time.monotonic()
    try:
        left = Drain(names, timeout, lambda line: click.echo(line)).run()
    except KeyboardInterrupt:
        raise SitewrightError(
            f"stopped; {fold(names)} are cordoned and some of their pods may be gone",
            f"Go on with the same command, or: sitewright nodes drain {environment} '{fold(names)}' --undo",
        ) from None
    for name in names:
        if not left[name]:
            click.echo(f"{name}: drained, {time.monotonic() - started:.0f} s")
    if any(left.values()):
        raise left_behind(environment, left)


def left_behind(environment: str, left: dict[str, list[Left]]) -> SitewrightError:
    """What a drain could not take away, as one error."""
    failed = [name for name, pods in left.items() if pods]
    lines = [f"{name}: {one.pod} is left: {one.reason}" for name in failed for one in left[name]]
    return SitewrightError(
        "\n".join([f"not drained: {fold(failed)}", *lines]),
        "They stay cordoned. `kubectl get pdb -A` shows budgets that allow no disruption. Go on with the same "
        f"command, or: sitewright nodes drain {environment} '{fold(failed)}' --undo",
    )
