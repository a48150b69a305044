"""`sitewright nodes`: diskless nodes as they are, beside what the site file says, and their power."""

import dataclasses
import json
import os
from pathlib import Path

import click
from rich.table import Table

from lab.bmc import report
from sitewright.cli.console import console
from sitewright.cli.nodes_drain import drain
from sitewright.cli.nodes_reassign import reassign
from sitewright.cli.nodes_replace import replace
from sitewright.cli.nodes_roll import roll
from sitewright.errors import SitewrightError
from sitewright.provisioning.node_states import State, chosen, states
from sitewright.provisioning.power import power_nodes
from sitewright.provisioning.redfish import ACTIONS, Outcome
from sitewright.site import Site, load
from sitewright.site.hostlist import fold

_LEAVES_IT_ON = ("status", "on", "running")
_limit = click.option(
    "--limit", type=click.IntRange(1, 256), default=16, show_default=True, help="BMCs spoken to at a time."
)
_pool = click.option("--pool", help="Only nodes of this pool.")


@click.group()
def nodes() -> None:
    """Look at the diskless nodes of a site, and lead them through their life.

    \b
    Speaks to BMCs and provisioner as the site file says, and to the cluster that KUBECONFIG names.
    """


nodes.add_command(drain)
nodes.add_command(reassign)
nodes.add_command(replace)
nodes.add_command(roll)


@nodes.command(name="list")
@click.argument("environment")
@click.argument("hostlist", required=False)
@_pool
@_limit
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def list_(environment: str, hostlist: str | None, pool: str | None, limit: int, as_json: bool) -> None:
    """List nodes of ENVIRONMENT, all or those of HOSTLIST: their power, and what differs from the site file.

    \b
    Reads only, changes nothing.
    Exit status: 0, 1 something could not be asked (it is told, the rest is shown).
    Example:     sitewright nodes list lab
    """
    site = load(environment)
    wanted = chosen(site, hostlist, pool)
    _progress(f"asking {len(wanted)} BMCs, the provisioner and the cluster")
    found = states(site, wanted, limit)
    if as_json:
        click.echo(json.dumps([_plain(state) for state in found], indent=2))
    else:
        table = Table("node", "nid", "pool", "power", "cluster", "differs", box=None, pad_edge=False)
        for state in found:
            joined = state.joined.state if state.joined else "-"
            table.add_row(
                state.node.xname,
                str(state.node.nid),
                state.node.pool,
                state.power,
                joined,
                state.differs or "-",
            )
        console().print(table)
    _tell_problems(found)


@nodes.command()
@click.argument("environment")
@click.argument("xname")
def show(environment: str, xname: str) -> None:
    """Print all that is known of node XNAME, as JSON: site file, provisioner, BMC and cluster.

    \b
    Reads only, changes nothing. `boot` is of a lab only: how far the last boot came, why not further, what to look at,
    and the last lines of the console. A real site's BMCs keep no such record.
    Exit status: 0, 1 something could not be asked.
    Example:     sitewright nodes show lab x1000c0s0b0n0
    """
    site = load(environment)
    found = states(site, chosen(site, xname))
    click.echo(json.dumps(_plain(found[0]) | {"boot": _last_boot(site, xname)}, indent=2))
    _tell_problems(found)


def _last_boot(site: Site, xname: str) -> dict[str, object] | None:
    if site.lab is None:
        return None
    # A lab that a test runs beside the real one is told its directory so.
    return report.last_boot(Path(os.environ.get("SITEWRIGHT_LAB_STATE_DIR", site.lab.state_dir)), xname)


@nodes.command()
@click.argument("environment")
@click.argument("hostlist")
@click.argument("action", type=click.Choice(list(ACTIONS)))
@_pool
@_limit
@click.option("--wait", default=60.0, show_default=True, help="Seconds until the power must have followed.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before nodes lose their power.")
def power(
    environment: str,
    hostlist: str,
    action: str,
    pool: str | None,
    limit: int,
    wait: float,
    dry_run: bool,
    yes: bool,
) -> None:
    """Switch the power of the nodes of HOSTLIST, through PCS or their BMCs, and say what happened to each.

    \b
    Changes: the nodes' power. What runs on them ends: drain them first (docs/runbooks/drain-a-node.md).
    One that fails does not stop the others; the same command again leaves alone what is there already.
    Exit status: 0 all are where ACTION leads, 1 one is not.
    Example:     sitewright nodes power lab x1000c0s0b0n0 status
    """
    site = load(environment)
    wanted = chosen(site, hostlist, pool)
    names = fold(node.xname for node in wanted)
    if action not in _LEAVES_IT_ON and not (dry_run or yes):
        click.confirm(f"{action} {len(wanted)} nodes ({names})?", abort=True)
    _progress(f"{action}: {len(wanted)} nodes")
    done = power_nodes(site, wanted, action, limit, wait, check=dry_run)
    _print_outcomes(done, dry_run)
    if failed := [outcome.name for outcome in done if outcome.error]:
        raise SitewrightError(
            f"{action}: {len(failed)} of {len(done)} nodes failed: {fold(failed)}",
            f"Mend what is said above, then: sitewright nodes power {environment} '{fold(failed)}' {action}",
        )


def _print_outcomes(done: list[Outcome], dry_run: bool) -> None:
    table = Table("node", "before", "after", "would be sent" if dry_run else "sent", box=None, pad_edge=False)
    for outcome in done:
        table.add_row(outcome.name, outcome.before, outcome.after, outcome.sent or "-")
    console().print(table)
    for outcome in done:
        if said := outcome.error.message if outcome.error else outcome.detail:
            click.echo(f"{outcome.name}: {said}")


def _plain(state: State) -> dict[str, object]:
    return {**dataclasses.asdict(state), "differs": state.differs}


def _tell_problems(found: list[State]) -> None:
    """Each once, though it may concern every node."""
    if problems := list(dict.fromkeys(problem for state in found for problem in state.problems)):
        raise SitewrightError("\n".join(problems))


def _progress(text: str) -> None:
    click.echo(text, err=True)
