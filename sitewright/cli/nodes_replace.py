"""`sitewright nodes replace`: a node has got another blade."""

import click

from sitewright.lifecycle import replace as blades
from sitewright.provisioning.node_states import chosen
from sitewright.site.load import load_with_origin
from sitewright.site.network_values import mac_address


def _mac(context: click.Context, parameter: click.Parameter, text: str) -> str:
    try:
        return mac_address(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("environment")
@click.argument("xname")
@click.option("--mac", required=True, callback=_mac, help="MAC address of the new blade's boot interface.")
@click.option("--dry-run", is_flag=True, help="Say what the provisioner would be told; change nothing.")
def replace(environment: str, xname: str, mac: str, dry_run: bool) -> None:
    """Have node XNAME boot from a new blade, under its old name; the provisioner forgets the old blade's MAC address.

    \b
    The site file must give the node this MAC address; where it does not, the line to change is told.
    Changes: the Ethernet interfaces and the Redfish endpoint of the node in SMD; BSS is told to look at them again.
    boot-service looks by itself every few minutes: until then this ends with 1, and is to be run again.
    Exit status: 0, also when there was nothing to do; 1 refused or failed, 2 wrong arguments.
    Example:     sitewright nodes replace lab x1000c0s0b0n0 --mac 02:00:00:00:00:01 --dry-run
    """
    loaded = load_with_origin(environment)
    [node] = chosen(loaded.site, xname)
    blades.require_free(loaded.site, node, mac)
    blades.require_in_site_file(loaded, node, mac)
    differing = blades.replace(loaded.site, node, dry_run)
    for line in differing:
        click.echo(f"{'would be changed' if dry_run else 'changed'}: {line}")
    if not differing:
        click.echo(f"Nothing to do: the provisioner knows {xname} by {mac}, and by no other.")
    elif not dry_run:
        click.echo(
            f"Next: sitewright nodes power {environment} {xname} on, then pulumi up --refresh has it join."
        )
