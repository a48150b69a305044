"""How many nodes of a pool may be out of service at a time, and which ones are next."""

import re
from collections.abc import Collection, Sequence

from sitewright.errors import SitewrightError


def at_most(text: str, pool_size: int) -> int:
    """`3`, or `10%` of the pool, rounded down and at least 1. Raises: SitewrightError for anything else."""
    match = re.fullmatch(r"([0-9]{1,6})(%?)", text.strip())
    number = int(match[1]) if match else 0
    if not match or number < 1 or (match[2] and number > 100):
        raise SitewrightError(
            f"--max-unavailable {text!r}: wanted is a number of nodes, 1 or more, or a share of the pool, 1% to 100%"
        )
    return max(1, pool_size * number // 100) if match[2] else number


def next_batch(
    begun: Sequence[str],
    waiting: Sequence[str],
    broken: Collection[str],
    cordoned: Collection[str],
    limit: int,
) -> list[str]:
    """The nodes that are led to their image next, `limit` at most.

    begun:    those that an earlier run had begun with: they come first, all of them.
    waiting:  those still to be begun with.
    broken:   nodes of the pool that are not Ready: they count as out of service.
    cordoned: by somebody else, who knows that they are out of service: they do not count.
              A broken or cordoned node costs nothing, so it comes before one that serves.
    Raises:   SitewrightError where as many as `limit` nodes are broken, and none of them is to be rolled.
    """
    if begun:
        return list(begun)
    if cost_nothing := [name for name in waiting if name in broken or name in cordoned]:
        return cost_nothing[:limit]
    room = limit - len(broken)
    if room < 1:
        raise SitewrightError(
            f"not Ready: {', '.join(sorted(broken))}; {limit} may be out of service, so no other node can be taken out",
            "Mend them, or allow more with --max-unavailable.",
        )
    return list(waiting[:room])
