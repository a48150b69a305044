"""`sitewright images`: boot images as they are published, and which nodes boot them."""

from datetime import UTC, datetime
from pathlib import Path

import click
from rich.table import Table

from sitewright.artifacts import boot_images, signing
from sitewright.artifacts.boot_images import SHOWN, BootImage
from sitewright.cli.console import console
from sitewright.errors import SitewrightError
from sitewright.lifecycle.images import published as published_image
from sitewright.lifecycle.journal import JournalFile
from sitewright.provider.repository import find_repository
from sitewright.provisioning.openchami_access import provisioner
from sitewright.site import Site, load
from sitewright.site.hostlist import fold


@click.group()
def images() -> None:
    """Look at the boot images of a site, compare and verify them, remove what no node boots.

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
    for image in _published(load(environment)):
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
    found = _published(load(environment))
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
    Changes: the image server's directory, not its copies on mirrors. What the provisioner has for any node stays, and
             so do the newest --keep of each name, and what the last `sitewright nodes roll` of a pool leads to, on or
             --back. Where the provisioner does not answer, or a journal of a roll cannot be read, nothing is removed.
    Exit status: 0, also when there is nothing to remove; 1 it failed, what is removed is told.
    Example:     sitewright images prune lab --dry-run
    """
    site = load(environment)
    images = _published(site)
    going = boot_images.unneeded(images, keep, _rolled(site))
    if not dry_run and site.image_server is not None:
        boot_images.sweep(Path(site.image_server.publish_dir))
    for image in going:
        if not dry_run:
            boot_images.remove(image)
        said = "would be removed" if dry_run else "removed"
        click.echo(f"{image.digest[:SHOWN]} {image.name}: {said}, {image.size / 2**20:.0f} MiB")
    if not going:
        click.echo(
            "Nothing to remove: each image is booted by a node, wanted by a roll, or among the newest."
        )


@images.command()
@click.argument("environment")
@click.argument("digest")
def verify(environment: str, digest: str) -> None:
    """Verify a published boot image of ENVIRONMENT: its signature, and each of its files. Reads only.

    \b
    DIGEST is the image's, or its beginning.
    Exit status: 0 all is as the site's key signed it; 1 it is not, no such image, or the site has no key.
    Example:     sitewright images verify lab 3f2a
    """
    site = load(environment)
    if site.image_server is None or site.image_server.signing_key is None:
        raise SitewrightError(
            f"the site {site.name} has no `image_server.signing_key`",
            "Make one with `sitewright images new-key PATH`, and name it in the site file.",
        )
    found = published_image(site, digest)
    click.echo(f"{found.digest[:SHOWN]} {found.name}: each file is as it was signed")


@images.command(name="new-key")
@click.argument("path", type=click.Path(path_type=Path))
def new_key(path: Path) -> None:
    """Make the key that signs boot images, as minisign makes them. Whoever has it decides what nodes run.

    \b
    Changes: writes PATH, the secret half, for its owner only, and PATH.pub. Overwrites nothing.
    Exit status: 0 done; 1 there is one already, or it cannot be written.
    Example:     sitewright images new-key .secrets/images.key
    """
    public = signing.create(path)
    click.echo(f"{path}, {signing.public_path(path)}: key {public.name}")
    click.echo(
        f"Next: name {path} as image_server.signing_key in the site file; keep a copy where no server reads it."
    )


def _published(site: Site) -> list[BootImage]:
    if site.image_server is None:
        raise SitewrightError(f"the site {site.name} has no `image_server`", "Add it to the site file.")
    kernels = {xname: known.kernel for xname, known in provisioner(site).known().items()}
    return boot_images.published(Path(site.image_server.publish_dir), kernels)


def _rolled(site: Site) -> set[str]:
    """Digests that the last roll of a pool leads to: its nodes can go on, or back, as long as they are there."""
    directory = find_repository(Path.cwd()) / ".sitewright"
    journals = (JournalFile(directory, site.name, pool.name).read() for pool in site.pools)
    return {digest.removeprefix("sha256:") for journal in journals if journal for digest in journal.images}
