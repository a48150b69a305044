"""Power of a site's nodes: through PCS where the site has it, else through their BMCs."""

from collections.abc import Sequence

from sitewright.errors import SitewrightError
from sitewright.provisioning.openchami_access import token
from sitewright.provisioning.pcs import Pcs
from sitewright.provisioning.redfish import Outcome, bmc_of, power_all
from sitewright.site import Node, Site


def power_nodes(
    site: Site,
    nodes: Sequence[Node],
    action: str,
    limit: int = 16,
    wait: float = 60.0,
    check: bool = False,
) -> list[Outcome]:
    """Bring the nodes' power where `action` (a key of redfish.ACTIONS) leads; in the order given.

    limit: BMCs spoken to at a time; PCS has a limit of its own. wait: seconds until the power must have followed.
    check: only say what would be done. What fails for a node is its `error`.
    """
    pcs = site.provisioner.pcs if site.provisioner else None
    if pcs is None:
        return power_all([bmc_of(site, node) for node in nodes], action, limit, wait, check)
    names = [node.xname for node in nodes]
    try:
        return Pcs(site.operator_url(pcs), token(site)).power(names, action, wait, check)
    except SitewrightError as error:
        return [Outcome(name, action, error=error) for name in names]
