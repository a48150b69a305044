"""What takes more than one value of a site file to see. Each module looks at one kind of fault."""

from collections.abc import Iterator

from sitewright.site.checks import (
    addresses,
    boot,
    capacity,
    clusters,
    distributions,
    duplicates,
    flavours,
    memory,
    queues,
    ranges,
    references,
    required,
    services,
)
from sitewright.site.checks.finding import Finding, Known
from sitewright.site.model import Site

__all__ = ["Finding", "Known", "run"]


def run(site: Site, known: Known) -> Iterator[Finding]:
    """Every finding, in no order. The address plan is looked at only where nothing of it is missing."""
    yield from required.check(site, known)
    yield from references.check(site, known)
    yield from services.check(site, known)
    yield from duplicates.check(site)
    yield from ranges.check(site)
    yield from clusters.check(site)
    yield from capacity.check(site)
    yield from memory.check(site)
    yield from flavours.check(site)
    yield from queues.check(site, known)
    yield from boot.check(site)
    yield from distributions.check(site)
    if known.complete:
        yield from addresses.check(site)
