"""What is legal about booting and would not do what it says, or leaves a door open."""

import re
from collections.abc import Iterator

from sitewright.site.boot_recipe import recipe, size_budget
from sitewright.site.checks.finding import Finding
from sitewright.site.model import Site
from sitewright.site.problems import Loc
from sitewright.site.sections import Pool

_SEED = re.compile(r"ds=nocloud[a-z-]*;(?:.*;)?(?:s|seedfrom)=(\S+)")


RUN_SHARE = 0.2  # of the memory, which is what /run of an initial root may hold (dracut issue 2550)
LIVE_RAM = re.compile(r"(?:^|\s)rd\.live\.ram(?:=1|\s|$)")


def check(site: Site) -> Iterator[Finding]:
    if site.image_server is not None and site.image_server.signing_key is None:
        message = "no signing_key: boot images are not signed, so whoever writes to publish_dir decides what nodes run"
        yield Finding(("image_server",), message, warning=True)
    yield from _proof_of_boot(site)
    for index, pool in enumerate(site.pools):
        yield from _live_image(pool, ("pools", index, "memory"))
        for position, argument in enumerate(pool.kernel_arguments):
            loc: Loc = ("pools", index, "kernel_arguments", position)
            yield from _seed(argument, loc)
            yield from _root(argument, loc)


def _proof_of_boot(site: Site) -> Iterator[Finding]:
    """Every pool joins by the identity service (docs/node-identity.md)."""
    if site.pools and site.provisioner is not None and site.provisioner.boot_service is not None:
        message = (
            "keeps no record of fetched boot scripts, so nodes say themselves that they boot, and only the log of "
            "node-identity shows that somebody took a node's name while it booted; docs/node-identity.md, Without BSS"
        )
        yield Finding(("provisioner", "boot_service"), message, warning=True)


def _seed(argument: str, loc: Loc) -> Iterator[Finding]:
    """cloud-init appends `user-data` to the seed URL as it is."""
    seed = _SEED.search(argument)
    if seed and not seed.group(1).endswith("/"):
        url = seed.group(1)
        message = f"the seed URL {url!r} does not end in '/'; cloud-init would ask for {url}user-data"
        yield Finding(loc, message, warning=True)


def _root(argument: str, loc: Loc) -> Iterator[Finding]:
    if re.search(r"(?:^|\s)root=", argument):
        yield Finding(
            loc, "root= is given by the boot image already; the kernel takes the last one", warning=True
        )


def _live_image(pool: Pool, loc: Loc) -> Iterator[Finding]:
    """With rd.live.ram=1 the initial root copies the image to /run, and fails obscurely where it does not fit."""
    arguments = [*pool.kernel_arguments, *map(str, recipe(pool.boot_image).get("kernel_arguments") or ())]
    if not any(LIVE_RAM.search(argument) for argument in arguments):
        return
    image, room = size_budget(pool.boot_image), int(pool.memory * RUN_SHARE)
    if image and image > room:
        yield Finding(
            loc,
            f"image {pool.boot_image!r} may have {_mib(image)} (size_budget), and rd.live.ram=1 copies it to /run, "
            f"where a node of {_mib(pool.memory)} has about {_mib(room)}; leave rd.live.ram out",
            warning=True,
        )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
