"""How this machine gets at what a site owns: the files the site file names, the addresses it publishes."""

from pathlib import Path

from sitewright.errors import SitewrightError
from sitewright.site import Site
from sitewright.site.sections import HypervisorImage


def ssh_public_key(site: Site) -> str:
    """The operator's public key. Raises: SitewrightError where the site file's key has none beside it."""
    assert site.ssh is not None
    path = Path(f"{site.ssh.private_key}.pub")
    try:
        return path.read_text().strip()
    except OSError as error:
        raise SitewrightError(
            f"{path}: {error.strerror}; it is put on every VM and node",
            "Make a key pair with ssh-keygen, or start the lab: `sitewright lab up`.",
        ) from error


def redfish_url(site: Site, address: str) -> str:
    """Root of a BMC as the operator's machine reaches it."""
    assert site.bmc is not None
    host, port = site.operator_endpoint(address, site.bmc.port)
    return f"https://{host}:{port}"


def image_checksum(image: HypervisorImage) -> str:
    """SHA-512 of a VM image: from the site file, or from the file of checksums it names."""
    if image.checksum is not None:
        return image.checksum
    path = Path(str(image.checksum_file))
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise SitewrightError(
            f"{path}: {error.strerror}; it holds the checksum of VM image {image.name}",
            "Put it there, or start the lab: `sitewright lab up`.",
        ) from error
    file_name = image.url.rpartition("/")[2]
    for line in lines:
        checksum, _, name = line.partition(" ")
        if name.strip().lstrip("*") == file_name:
            return checksum
    raise SitewrightError(f"{path}: no line names {file_name}, the file of VM image {image.name}")
