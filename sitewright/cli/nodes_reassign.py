"""`sitewright nodes reassign`: nodes go to another owner."""

import click

from sitewright.kubernetes_api import load_kubeconfig
from sitewright.lifecycle.reassign import Move, moves
from sitewright.lifecycle.reassign import reassign as carry_out
from sitewright.provisioning.node_states import chosen
from sitewright.site import Site, load
from sitewright.site.hostlist import fold


@click.command()
@click.argument("environment")
@click.argument("hostlist")
@click.option(
    "--to", "target", required=True, help="A pool of the site file, or another owner's group in SMD."
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(0, min_open=True),
    default=1800.0,
    show_default=True,
    help="Seconds until all pods must be gone.",
)
@click.option("--force", is_flag=True, help="Also pods that nobody makes again.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before nodes lose their power.")
def reassign(
    environment: str, hostlist: str, target: str, drain_timeout: float, force: bool, dry_run: bool, yes: bool
) -> None:
    """Make TARGET the owner of the nodes of HOSTLIST: a pool, or the batch system.

    \b
    Owners are groups of SMD that exclude each other: a node never has two, whoever asks.
    Changes: the nodes are drained, taken out of the cluster that KUBECONFIG names, switched off, boot nothing, and are
             members of the other group. What they boot then is their new owner's affair.
    Stopped or failed, the same command again goes on. A node that goes to a pool must be in that pool of the site file.
    Exit status: 0, also when there was nothing to do; 1 refused or failed, 2 wrong arguments.
    Example:     sitewright nodes reassign lab x1000c0s0b1n0 --to slurm --dry-run
    """
    site = load(environment)
    load_kubeconfig()
    wanted = moves(site, chosen(site, hostlist), target)
    for move in wanted:
        click.echo(_said(move, target))
    if not wanted:
        click.echo(f"Nothing to do: {target} has them.")
    elif not dry_run:
        names = fold(move.node.xname for move in wanted)
        if not yes:
            click.confirm(f"switch off {len(wanted)} nodes ({names}) and give them to {target}?", abort=True)
        carry_out(site, wanted, target, drain_timeout, force, click.echo)
    click.echo(_next(site, environment, [move.node.xname for move in wanted], target))


def _said(move: Move, target: str) -> str:
    drained = "drained, taken out of the cluster, " if move.joined else ""
    return f"{move.node.xname}: of {move.owner or 'nobody'}; to be {drained}switched off, and {target}'s"


def _next(site: Site, environment: str, names: list[str], target: str) -> str:
    if target in {pool.name for pool in site.pools}:
        return f"Next: pulumi up -s {environment} --refresh has them boot and join."
    absent = ", ".join(f"{name}: {{absent: true}}" for name in names)
    return (
        "Next: say in the site file that its pool has not got them now, else an update waits for them and fails: "
        f"overrides: {{{absent or '<xname>: {absent: true}'}}}"
    )
