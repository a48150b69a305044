"""`sitewright adapters`: what fine-tuning made, as it is served."""

import difflib
import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from sitewright.errors import SitewrightError
from sitewright.site import load
from sitewright.site.files import display
from sitewright.tuning import adapter_files, release, runs
from sitewright.tuning import adapters as published
from sitewright.tuning.cluster import Cluster

_namespace = click.option(
    "--namespace", "-n", default="fine-tuning", show_default=True, help="Kubernetes namespace of the runs."
)
_only_show = click.option("--dry-run", is_flag=True, help="Show the change of the file; change nothing.")


@click.group()
def adapters() -> None:
    """Publish adapters, find what they were made of, and say which of them answers under an alias.

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
    click.echo(f'Next: ask for "model": "{adapter.id}" where {adapter.model} is served, or put it on trial:')
    click.echo(f"  sitewright adapters canary <environment> <alias> {adapter.id} --percent 10")


@adapters.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("base", type=click.Path(exists=True, file_okay=False, path_type=Path))
def check(directory: Path, base: Path) -> None:
    """Say whether vLLM would use the LoRA adapter in DIRECTORY beside the model in BASE.

    \b
    From their files alone; needs no cluster, reads only, changes nothing. `publish` does it by itself.
    Exit status: 0 it would, 1 it would not.
    Example:     sitewright adapters check adapter/ /shared/models/apertus-8b
    """
    if against := adapter_files.faults(directory, base):
        raise SitewrightError(f"{directory}: {'; '.join(against)}", "Nothing of it was published.")
    click.echo(f"{directory}: every matrix fits a layer of {base.name}")


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


@adapters.command()
@click.argument("environment")
@click.argument("alias")
@click.argument("adapter")
@click.option(
    "--percent", type=click.IntRange(1, 99), default=10, show_default=True, help="Of the requests for ALIAS."
)
@_only_show
def canary(environment: str, alias: str, adapter: str, percent: int, dry_run: bool) -> None:
    """Put ADAPTER on trial: a part of the requests for ALIAS is answered with it.

    \b
    Changes the site file of ENVIRONMENT, nothing else; `pulumi up` brings it about. Given again with another
    --percent, it changes the share.
    Exit status: 0 written, 1 refused: no such alias or adapter, or another one is on trial.
    Example:     sitewright adapters canary lab assistant alps--v2 --percent 10
    """
    _write(release.canary(load(environment), alias, adapter, percent), environment, dry_run)


@adapters.command()
@click.argument("environment")
@click.argument("alias")
@click.argument("adapter", required=False)
@_only_show
def promote(environment: str, alias: str, adapter: str | None, dry_run: bool) -> None:
    """Answer all requests for ALIAS with what is on trial, or with ADAPTER; also makes an alias.

    \b
    ADAPTER may also be the name of a served model. Changes the site file of ENVIRONMENT, nothing else.
    Exit status: 0 written, 1 refused: nothing is on trial, or no such adapter.
    Example:     sitewright adapters promote lab assistant
    """
    _write(release.promote(load(environment), alias, adapter), environment, dry_run)


@adapters.command()
@click.argument("environment")
@click.argument("alias")
@click.argument("adapter", required=False)
@_only_show
def rollback(environment: str, alias: str, adapter: str | None, dry_run: bool) -> None:
    """End the trial under ALIAS, or go back to ADAPTER, an earlier version.

    \b
    Changes the site file of ENVIRONMENT, nothing else. Versions stay published.
    Exit status: 0 written, 1 refused: nothing is on trial, or no such adapter.
    Example:     sitewright adapters rollback lab assistant alps--v1
    """
    _write(release.rollback(load(environment), alias, adapter), environment, dry_run)


def _write(change: release.Release, environment: str, dry_run: bool) -> None:
    click.echo(change.said)
    if dry_run:
        lines = difflib.unified_diff(
            change.before.splitlines(), change.after.splitlines(), "now", "then", lineterm="", n=1
        )
        click.echo("\n".join(lines))
        click.echo("nothing was changed")
        return
    change.make()
    click.echo(f"{display(change.path)} says so. Next: pulumi up -s {environment}")
