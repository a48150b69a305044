"""`sitewright images`: boot images as they are published, and which nodes boot them."""

from datetime import UTC, datetime
from pathlib import Path

import click
from rich.table import Table

from sitewright.artifacts import boot_images
from sitewright.artifacts.boot_images import SHOWN, BootImage
from sitewright.cli.console import console
from sitewright.errors import SitewrightError
from sitewright.provisioning.openchami_access import provisioner
from sitewright.site import load
from sitewright.site.hostlist import fold


@click.group()
def images() -> None:
    """Look at the boot images of a site, compare two of them, remove what no node boots.

    \b
    Needs the directory that image_server.publish_dir names, and asks the provisioner who boots what.
    """


@images.command(name="list")
@click.argument("environment")
def list_(environment: str) -> None:
    """List the published boot images of ENVIRONMENT, newest first. Reads only, changes nothing.

    \b
    Exit status: 0, also when there is none; 1 the provisioner does not answer.
    Example:     sitewright images list lab
    """
    table = Table(
        "digest", "image", "kernel", "MiB", "packages", "published", "nodes", box=None, pad_edge=False
    )
    for image in _published(environment):
        table.add_row(
            image.digest[:SHOWN],
            image.name,
            image.manifest["kernel"],
            f"{image.size / 2**20:.0f}",
            str(len(image.packages)),
            f"{datetime.fromtimestamp(image.published, UTC):%Y-%m-%d %H:%M}",
            fold(image.nodes) if image.nodes else "-",
        )
    console().print(table)


@images.command()
@click.argument("environment")
@click.argument("old")
@click.argument("new")
def diff(environment: str, old: str, new: str) -> None:
    """Say what a node gets that boots NEW after OLD: kernel, arguments, files, packages.

    \b
    OLD and NEW are digests, or their beginnings. Reads only, changes nothing.
    Exit status: 0, also when they are the same; 1 no such image.
    Example:     sitewright images diff lab 3f2a 9c41
    """
    found = _published(environment)
    lines = boot_images.difference(boot_images.find(found, old), boot_images.find(found, new))
    click.echo("\n".join(lines) or "They are the same.")


@images.command()
@click.argument("environment")
@click.option(
    "--keep", type=click.IntRange(1), default=3, show_default=True, help="Newest of each name that stay."
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed; change nothing.")
def prune(environment: str, keep: int, dry_run: bool) -> None:
    """Remove published boot images that no node boots.

    \b
    Changes: the image server's directory. What the provisioner has for any node stays, and so do the newest --keep
             of each name. Where the provisioner does not answer, nothing is removed.
    Exit status: 0, also when there is nothing to remove; 1 it failed, what is removed is told.
    Example:     sitewright images prune lab --dry-run
    """
    going = boot_images.unneeded(_published(environment), keep)
    for image in going:
        if not dry_run:
            boot_images.remove(image)
        said = "would be removed" if dry_run else "removed"
        click.echo(f"{image.digest[:SHOWN]} {image.name}: {said}, {image.size / 2**20:.0f} MiB")
    if not going:
        click.echo("Nothing to remove: each image is booted by a node, or among the newest of its name.")


def _published(environment: str) -> list[BootImage]:
    site = load(environment)
    if site.image_server is None:
        raise SitewrightError(f"the site {site.name} has no `image_server`", "Add it to the site file.")
    kernels = {xname: known.kernel for xname, known in provisioner(site).known().items()}
    return boot_images.published(Path(site.image_server.publish_dir), kernels)
