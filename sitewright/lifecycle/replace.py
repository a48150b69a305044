"""A blade was swapped: the node keeps its name and its place, and has another MAC address."""

from dataclasses import asdict

from sitewright.errors import SitewrightError
from sitewright.provisioning.openchami_access import provisioner
from sitewright.site import Node, Site
from sitewright.site.load import Loaded


def require_free(site: Site, node: Node, mac: str) -> None:
    """Raises: SitewrightError where another node, BMC or VM of the site, or of the provisioner, has the MAC address."""
    owners = {one.mac: f"node {one.xname}" for one in site.nodes if one.xname != node.xname}
    owners |= {one.bmc_mac: f"BMC {one.bmc}" for one in site.nodes}
    owners |= {vm.mac: f"VM {vm.name}" for vm in site.vms}
    owner = owners.get(mac)
    if owner is None and (known := provisioner(site).interfaces().get(mac, "")) not in ("", node.xname):
        owner = f"{known} in the provisioner"
    if owner:
        raise SitewrightError(
            f"{mac} is the MAC address of {owner}; nothing was changed",
            "Read it once more from the new blade.",
        )


def require_in_site_file(loaded: Loaded, node: Node, mac: str) -> None:
    """Raises: SitewrightError with the line to change where the site file gives the node another MAC address."""
    if node.mac == mac:
        return
    index = [pool.name for pool in loaded.site.pools].index(node.pool)
    position, written = loaded.tree.find(("pools", index, "overrides", node.xname, "mac"))
    write = f"overrides: {{{node.xname}: {{mac: {mac}}}}}"
    what = f"write `mac: {mac}`" if written else f"pool {node.pool} has to say `{write}`"
    raise SitewrightError(
        f"{position}: the site file gives {node.xname} the MAC address {node.mac}, not {mac}; {what}",
        "Nothing was changed. `pulumi up` would take back what the site file does not say; change it and come again.",
    )


def replace(site: Site, node: Node, dry_run: bool) -> list[str]:
    """Have the provisioner know the node by the MAC address of the site file, and by no other.

    Returns: what differed, a text each. Done again, or after it was interrupted, it does what is missing.
    """
    of_bmc = [asdict(one) for one in site.nodes if one.bmc == node.bmc]
    return provisioner(site, check=dry_run).readdress(of_bmc, node.xname)
