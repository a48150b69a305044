"""Sections that are required because of what another section asks for, and the name of the file."""

from collections.abc import Iterator

from sitewright.site.checks.finding import Finding, Known
from sitewright.site.model import Site
from sitewright.site.plan import network_of_bmcs


def check(site: Site, known: Known) -> Iterator[Finding]:
    if site.name != known.stem and "name" not in known.dropped:
        yield Finding(("name",), f"{site.name!r} must equal the name of the file, {known.stem!r}")
    yield from _sections(site, known)
    yield from _bmc_networks(site, known)
    yield from _nothing_to_run_on(site)


def _sections(site: Site, known: Known) -> Iterator[Finding]:
    reasons = {
        "hypervisor": "virtual_machines" if site.virtual_machines else "",
        "ssh": "virtual_machines" if site.virtual_machines else "pools" if site.pools else "",
        "image_server": "pools" if site.pools else "",
        "provisioner": "pools" if site.pools else "",
        "bmc": "pools" if site.pools else "",
    }
    for section, reason in reasons.items():
        if reason and section not in known.sections:
            yield Finding((section,), f"REQUIRED when there are {reason}, and not there")


def _bmc_networks(site: Site, known: Known) -> Iterator[Finding]:
    """Each pool must have one network where its BMCs are."""
    if not known.complete:
        return
    for index, pool in enumerate(site.pools):
        if pool.bmc_network is not None and pool.bmc_network not in (known["networks"] or ()):
            continue
        network = network_of_bmcs(site.networks, pool)
        if network is not None and network.bmc_offset is not None:
            continue
        if network is not None:
            message = f"network {network.name!r} has no bmc_offset; give it one, or name another network"
            yield Finding(("pools", index, "bmc_network"), message)
            continue
        having = [network.name for network in site.networks if network.bmc_offset is not None]
        if having:
            message = (
                f"REQUIRED: several networks carry BMCs ({', '.join(having)}), name the one of this pool"
            )
        else:
            message = "no network carries BMCs; give one of networks a bmc_offset"
        yield Finding(("pools", index, "bmc_network"), message)


def _nothing_to_run_on(site: Site) -> Iterator[Finding]:
    for index, image in enumerate(site.boot_images):
        if all(pool.boot_image != image.name for pool in site.pools):
            yield Finding(("boot_images", index, "name"), f"{image.name!r} is used by no pool", warning=True)
    for index, vm_image in enumerate(site.hypervisor.images if site.hypervisor else ()):
        if all(group.image != vm_image.name for group in site.virtual_machines):
            loc = ("hypervisor", "images", index, "name")
            yield Finding(loc, f"{vm_image.name!r} is used by no VM", warning=True)
