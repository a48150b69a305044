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
    given = token(site)
    smd, bss, cloud_init, boot_service = (
        site.operator_url(url) if url else ""
        for url in (found.smd, found.bss, found.cloud_init, found.boot_service)
    )
    services = Services(smd, bss, cloud_init, given, boot_service=boot_service, seed=found.cloud_init)
    return OpenChami(services, check)


def token(site: Site) -> str | None:
    """The JWT for the provisioner; None where it wants none. Raises: SitewrightError for a file that cannot be read."""
    file = site.provisioner.token_file if site.provisioner else None
    try:
        return Path(file).read_text().strip() if file else None
    except OSError as error:
        raise SitewrightError(
            f"cannot read the provisioner's token from {file}: {error.strerror}",
            "provisioner.token_file in the site file names it.",
        ) from error
