"""`sitewright config`: look at a site file before anything is done with it."""

import json
from collections.abc import Sized

import click

from sitewright.site.effective import as_yaml
from sitewright.site.load import load_with_origin
from sitewright.site.schema import schema as json_schema


@click.group()
def config() -> None:
    """Look at site files. Reads only, changes nothing."""


@config.command()
@click.argument("environment")
def check(environment: str) -> None:
    """Check the site file of ENVIRONMENT (a name like lab, or a path). Reads only, changes nothing.

    \b
    Prints every problem as FILE:LINE:COLUMN: KEY: what is wrong and what would be right.
    Exit status: 0 valid (warnings are printed), 2 problems in the file.
    Example:     sitewright config check lab
    """
    site = load_with_origin(environment).site
    for warning in site.warnings:
        click.echo(f"warning: {warning}", err=True)
    nodes = f"{_count(site.nodes, 'node')} in {_count(site.pools, 'pool')}"
    others = f"{_count(site.clusters, 'cluster')}, {_count(site.services.models, 'model')}"
    click.echo(f"{site.name} is valid: {_count(site.vms, 'VM')}, {nodes}, {others}")
    click.echo(f"Next: sitewright config show {environment} --origin, or pulumi preview -s {site.name}")


@config.command()
@click.argument("environment")
@click.option("--origin", is_flag=True, help="Say behind each value in which file and line it was written.")
def show(environment: str, origin: bool) -> None:
    """Print the effective site file of ENVIRONMENT. Reads only, changes nothing.

    \b
    What the file says, merged with what it extends and filled up with the defaults; itself a valid site file.
    Exit status: 0 valid, 2 problems in the file (all of them printed).
    Example:     sitewright config show lab --origin
    """
    click.echo(as_yaml(load_with_origin(environment), origin), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON schema of site files, for editors. Reads only, changes nothing.

    \b
    Exit status: 0.
    Example:     sitewright config schema > environments/schema.json
    """
    click.echo(json.dumps(json_schema(), indent=2))


def _count(things: Sized, what: str) -> str:
    return f"{len(things):,} {what}{'' if len(things) == 1 else 's'}"
