"""The way to a site's provisioner, from the machine of its operator."""

from pathlib import Path

from sitewright.errors import SitewrightError
from sitewright.provisioning.openchami import OpenChami
from sitewright.provisioning.openchami_http import Services
from sitewright.site import Site


def provisioner(site: Site, check: bool = True) -> OpenChami:
    """A client of the site's provisioner, as the operator's machine reaches it. check: it only asks."""
    if site.provisioner is None:
        raise SitewrightError(f"the site {site.name} has no `provisioner`", "Add it to the site file.")
    found = site.provisioner
    try:
        token = Path(found.token_file).read_text().strip() if found.token_file else None
    except OSError as error:
        raise SitewrightError(
            f"cannot read the provisioner's token from {found.token_file}: {error.strerror}",
            "provisioner.token_file in the site file names it.",
        ) from error
    smd, bss, cloud_init = (site.operator_url(str(url)) for url in (found.smd, found.bss, found.cloud_init))
    return OpenChami(Services(smd, bss, cloud_init, token), check)
