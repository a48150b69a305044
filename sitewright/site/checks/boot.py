"""Kernel arguments that are legal and would not do what they say."""

import re
from collections.abc import Iterator

from sitewright.site.checks.finding import Finding
from sitewright.site.model import Site
from sitewright.site.problems import Loc

_SEED = re.compile(r"ds=nocloud[a-z-]*;(?:.*;)?(?:s|seedfrom)=(\S+)")


def check(site: Site) -> Iterator[Finding]:
    for index, pool in enumerate(site.pools):
        for position, argument in enumerate(pool.kernel_arguments):
            loc: Loc = ("pools", index, "kernel_arguments", position)
            yield from _seed(argument, loc)
            yield from _root(argument, loc)


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
