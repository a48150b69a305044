"""`sitewright nodes roll`: a pool moves to another boot image."""

from pathlib import Path

import click
from rich.table import Table

from sitewright.cli.console import console
from sitewright.cli.roll_view import RollView
from sitewright.errors import SitewrightError
from sitewright.kubernetes_api import load_kubeconfig
from sitewright.lifecycle import cluster_node
from sitewright.lifecycle.batches import at_most
from sitewright.lifecycle.images import running, short
from sitewright.lifecycle.journal import Journal, JournalFile
from sitewright.lifecycle.playbooks import require
from sitewright.lifecycle.roll import Roll, RollStopped
from sitewright.lifecycle.roll_actions import HEALTH, RollActions
from sitewright.lifecycle.targets import journal_for
from sitewright.provider.repository import find_repository
from sitewright.provisioning.openchami_access import provisioner
from sitewright.site import Site, load
from sitewright.site.files import is_path
from sitewright.site.hostlist import fold

_seconds = click.FloatRange(0, min_open=True)


@click.command()
@click.argument("environment")
@click.argument("pool")
@click.option("--image", metavar="DIGEST", help="Not the image that is declared, but this published one.")
@click.option("--back", is_flag=True, help="To the image that the pool ran before its last roll.")
@click.option(
    "--reboot", is_flag=True, help="Also nodes that run it already: for other kernel arguments, say."
)
@click.option(
    "--max-unavailable", default="1", show_default=True, metavar="N|P%", help="Out of service at a time."
)
@click.option(
    "--drain-timeout", type=_seconds, default=1800.0, show_default=True, help="Seconds until pods are gone."
)
@click.option(
    "--boot-timeout", type=_seconds, default=900.0, show_default=True, help="Seconds from on to Ready."
)
@click.option("--health", default=HEALTH, show_default=True, help="Playbook that a node must pass.")
@click.option("--force", is_flag=True, help="Also pods that nobody makes again.")
@click.option("--dry-run", is_flag=True, help="Say which nodes would be rolled; change nothing.")
def roll(
    environment: str,
    pool: str,
    image: str | None,
    back: bool,
    reboot: bool,
    max_unavailable: str,
    drain_timeout: float,
    boot_timeout: float,
    health: str,
    force: bool,
    dry_run: bool,
) -> None:
    """Lead the nodes of POOL, a few at a time, to the boot image that is declared for them.

    \b
    `pulumi up` declares an image and lets nodes that run go on. This takes each node to it: drained, switched off and
    on, joined with the image that was meant, passed by the health playbook, back in service. The first failure stops
    it, and the other nodes serve. The same command goes on, also after a crash. Who was cordoned before stays so.
    Changes: the nodes' power, what runs on them; with --image and --back also what the provisioner has for them.
    Exit status: 0 all nodes run the image, 1 stopped (the nodes that failed are named), 2 wrong arguments.
    Example:     sitewright nodes roll lab gpu --max-unavailable 10%
    """
    if image is not None and back:
        raise click.UsageError("--image and --back are two ways to name an image; give one of them.")
    site = load(environment)
    environment = str(site.file) if is_path(environment) else environment
    names = [node.xname for node in site.pool_nodes(pool)]
    limit = at_most(max_unavailable, len(names))
    require(health)
    load_kubeconfig()
    file = JournalFile(find_repository(Path.cwd()) / ".sitewright", site.name, pool)
    with file.locked():
        journal = _journal(site, pool, names, file, image, back, reboot)
        view = RollView(console(), names)
        actions = RollActions(
            site,
            site.pool(pool),
            environment,
            journal.target,
            view.tell,
            drain_timeout,
            boot_timeout,
            force,
            health,
        )
        rolled = Roll(journal, names, limit, actions, file.write, view.show)
        if dry_run:
            _print_plan(rolled)
        else:
            _run(environment, rolled, view)


def _journal(
    site: Site,
    pool: str,
    names: list[str],
    file: JournalFile,
    image: str | None,
    back: bool,
    reboot: bool,
) -> Journal:
    found = {name: cluster_node.find(name) for name in names}
    if not any(found.values()):
        raise SitewrightError(
            f"the cluster has no node of pool {pool}",
            f"Does KUBECONFIG name the cluster {site.pool(pool).cluster}?",
        )
    known = provisioner(site).known()
    return journal_for(site, site.name, pool, found, known, file.read(), image, back, reboot)


def _print_plan(rolled: Roll) -> None:
    table = Table("node", "runs", "would run", "begun", box=None, pad_edge=False)
    for name in rolled.pending():
        entry = rolled.journal.unfinished.get(name)
        runs = short(running(rolled.actions.find(name)))
        table.add_row(name, runs, short(rolled.journal.target), entry.step if entry else "-")
    if table.row_count:
        console().print(table)
    click.echo(f"{table.row_count} nodes, {rolled.limit} at a time")


def _run(environment: str, rolled: Roll, view: RollView) -> None:
    journal = rolled.journal
    if not (pending := rolled.pending()):
        if journal.nodes:
            rolled.finish()
        click.echo(
            f"Nothing to do: all {len(rolled.nodes)} nodes run {short(journal.target)}. "
            "To have them boot all the same, for other kernel arguments say, add --reboot."
        )
        return
    click.echo(f"{len(pending)} of {len(rolled.nodes)} nodes go to image {short(journal.target)}")
    again = f"sitewright nodes roll {environment} {journal.pool}"
    try:
        with view:
            came = rolled.run()
    except RollStopped as stopped:
        failed = fold(stopped.failed)
        raise SitewrightError(
            f"{stopped.message}\nstopped: {failed} out of service, the other nodes are left alone",
            f"Mend it and go on with `{again}`, or give the image up with `{again} --back`.",
        ) from stopped
    except KeyboardInterrupt:
        raise SitewrightError(
            "stopped; nodes that were being rolled may be cordoned or off",
            f"Go on with `{again}`, or give the image up with `{again} --back`.",
        ) from None
    click.echo(f"{len(came)} nodes run {short(journal.target)}.")
    if journal.asked:
        click.echo(
            "`pulumi up --refresh` would declare the image of the site file again; this one holds until then."
        )
