"""`sitewright adapters`: what fine-tuning made, as it is served."""

import json

import click
from rich.console import Console
from rich.table import Table

from sitewright.errors import SitewrightError
from sitewright.tuning import adapters as published
from sitewright.tuning import runs
from sitewright.tuning.cluster import Cluster

_namespace = click.option(
    "--namespace", "-n", default="fine-tuning", show_default=True, help="Kubernetes namespace of the runs."
)


@click.group()
def adapters() -> None:
    """Publish adapters, and find what they were made of.

    \b
    Needs KUBECONFIG, and the shared file system mounted where the site file's publish_dir says.
    """


@adapters.command(name="list")
@_namespace
def list_(namespace: str) -> None:
    """List the published adapters. Reads only, changes nothing.

    \b
    Exit status: 0, also when there is none.
    Example:     sitewright adapters list
    """
    found = published.every(Cluster(namespace).template())
    if not found:
        click.echo("No adapters yet. Next: sitewright adapters publish --help")
        return
    table = Table("adapter", "model", "run", "data", box=None, pad_edge=False)
    for adapter in found:
        request = adapter.record["request"]
        table.add_row(adapter.id, adapter.model, request["run"], request["data_digest"][:12])
    Console().print(table)


@adapters.command()
@click.argument("adapter")
@_namespace
def show(adapter: str, namespace: str) -> None:
    """Print what ADAPTER was made of: the model name of an answer leads to base, data, recipe and seed.

    \b
    Reads only, changes nothing. Prints the JSON record of the run.
    Exit status: 0, 1 there is none of that name.
    Example:     sitewright adapters show alps--v1
    """
    found = published.find(Cluster(namespace).template(), adapter)
    click.echo(json.dumps(found.record, indent=2))


@adapters.command()
@click.argument("run")
@click.argument("name")
@click.option(
    "--better-by", default=0.0, show_default=True, help="How much lower the loss on held-out rows must be."
)
@click.option("--unjudged", is_flag=True, help="Publish what was not judged, or judged too bad.")
@click.option("--dry-run", is_flag=True, help="Say whether it would be published; change nothing.")
@_namespace
def publish(run: str, name: str, better_by: float, unjudged: bool, dry_run: bool, namespace: str) -> None:
    """Publish what RUN left as the next version of NAME, and have every replica serve it.

    \b
    Exit status: 0 every ready replica answers with it, 1 refused, or published and not served everywhere.
    Example:     sitewright adapters publish tiny-20261126-120000 alps
    """
    cluster = Cluster(namespace)
    template = cluster.template()
    found = runs.find(template, run)
    against = published.judge(found.record or {}, better_by)
    if found.record is not None and against and not unjudged:
        raise SitewrightError(f"{run} is not published: {against}", "--unjudged publishes it all the same.")
    if dry_run:
        click.echo(f"{run} would be published as the next version of {name}; nothing was changed")
        return
    adapter = published.publish(template, found, name)
    click.echo(f"{adapter.id} is published; asking each replica of {adapter.model} to answer with it")
    for pod in published.warm(cluster, template, adapter):
        click.echo(f"  {pod} serves it")
    click.echo(f'Next: ask for "model": "{adapter.id}" where {adapter.model} is served')


@adapters.command()
@click.argument("adapter")
@_namespace
def warm(adapter: str, namespace: str) -> None:
    """Have every ready replica answer once with ADAPTER.

    \b
    Exit status: 0 all did, 1 one did not.
    Example:     sitewright adapters warm alps--v1
    """
    cluster = Cluster(namespace)
    template = cluster.template()
    for pod in published.warm(cluster, template, published.find(template, adapter)):
        click.echo(f"{pod} serves it")
