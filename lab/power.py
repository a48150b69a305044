"""The power of the lab's nodes, as an operator of a real site switches it: by Redfish, through the BMC."""

from lab.namespace import within
from lab.plan import LabPlan
from lab.reach import unknown
from sitewright.provisioning import redfish

# What the operator says → action of `sitewright.provisioning.redfish`.
ACTIONS = {"on": "on", "off": "shutdown", "force-off": "off", "restart": "restart", "status": "status"}


def power(plan: LabPlan, xname: str, action: str) -> str:
    """Do it and say in one line what happened. action: one of ACTIONS.
    Raises: SitewrightError for an unknown xname, and for what the BMC refuses."""
    node = next((node for node in plan.site.nodes if node.xname == xname), None)
    if node is None:
        raise unknown("node", xname, [node.xname for node in plan.site.nodes])
    bmc = redfish.bmc_of(plan.site, node, from_operator=False)
    # Inside the lab every BMC can be reached; only some are published on 127.0.0.1.
    outcome = within(redfish.power, bmc, ACTIONS[action])
    if action == "status":
        return outcome.after
    said = (
        f"{xname}: {outcome.before} → {outcome.after}"
        if outcome.changed
        else f"{xname}: already {outcome.after}"
    )
    return f"{said} ({outcome.detail})" if outcome.detail else said
