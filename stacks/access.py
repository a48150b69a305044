"""How this machine gets at what a site owns: the files the site file names, the addresses it publishes."""

from ipaddress import IPv4Network
from pathlib import Path

from modules.gateway.llm_gateway import CA, PASSWORD
from sitewright.errors import SitewrightError
from sitewright.site import Site, load
from sitewright.site.fields import sha512
from sitewright.site.files import REPOSITORY, is_path, site_file
from sitewright.site.sections import HypervisorImage
from sitewright.site.service_sections import GatewayDatabase


def site_named(environment: str) -> Site:
    """The site that the stack's configuration names. A relative path starts in the directory of the project,
    as the configuration's own file does: the program runs in `stacks/`, where no operator is."""
    return load(REPOSITORY / environment if is_path(environment) else environment)


def environment(site: Site) -> str:
    """What `sitewright.site.load` takes for this site in another process: its name, or the path of a file
    that lies elsewhere than in `environments/`."""
    elsewhere = site.file is not None and site.file != site_file(site.name).resolve()
    return str(site.file) if elsewhere else site.name


def hypervisor_kubeconfig(site: Site) -> str:
    assert site.hypervisor is not None
    return _read(site.hypervisor.kubeconfig, "it is the way into the hypervisor", "Put it there")


def ssh_public_key(site: Site) -> str:
    """The operator's public key. Raises: SitewrightError where the site file's key has none beside it."""
    assert site.ssh is not None
    return _read(
        f"{site.ssh.private_key}.pub", "it is put on every VM and node", "Make a key pair with ssh-keygen"
    ).strip()


def provisioner_token(site: Site) -> str | None:
    """The JWT for the provisioner; None where it asks for none. Raises: SitewrightError where the file is not there."""
    assert site.provisioner is not None
    file = site.provisioner.token_file
    return None if file is None else _read(file, "it is for the provisioner", "Put it there").strip()


def database_login(database: GatewayDatabase) -> dict[str, str]:
    """What a gateway logs in to its database with. Raises: SitewrightError where a file is not there."""
    return {
        PASSWORD: _read(database.password_file, "it is for the gateway's database", "Put it there").strip(),
        CA: _read(database.ca_file, "it signed the certificate of the gateway's database", "Put it there"),
    }


def nodes_and_machines(site: Site, cluster: str) -> tuple[IPv4Network, ...]:
    """The networks that ask through a node port of a cluster: those of VMs and of the cluster's nodes.

    A node that passes a request on to another one does so under its own address; in RKE2, whose network is an
    overlay, under one of the pod network (Kubernetes, "Using Source IP", services of type NodePort). There a
    node port opens a service to all pods.
    """
    found = site.cluster(cluster)
    pools = [pool.network for pool in site.pools if pool.cluster == cluster]
    names = {*(vm.network for vm in site.vms), *pools}
    cidrs = [network.cidr for network in site.networks if network.name in names]
    overlay = [found.pod_cidr] if found.distribution == "rke2" else []
    return tuple(map(IPv4Network, [*cidrs, *overlay]))


def redfish_url(site: Site, address: str) -> str:
    """Root of a BMC as the operator's machine reaches it."""
    assert site.bmc is not None
    host, port = site.operator_endpoint(address, site.bmc.port)
    return f"https://{host}:{port}"


def image_checksum(image: HypervisorImage) -> str:
    """SHA-512 of a VM image: from the site file, or from the file of checksums it names."""
    if image.checksum is not None:
        return image.checksum
    path = str(image.checksum_file)
    lines = _read(path, f"it holds the checksum of VM image {image.name}", "Put it there").splitlines()
    file_name = image.url.rpartition("/")[2]
    for line in lines:
        checksum, _, name = line.partition(" ")
        if name.strip().lstrip("*") == file_name:
            return _sha512(checksum, path, file_name)
    raise SitewrightError(f"{path}: no line names {file_name}, the file of VM image {image.name}")


def _sha512(checksum: str, path: str, file_name: str) -> str:
    try:
        return sha512(checksum)
    except ValueError as error:
        raise SitewrightError(f"{path}: the checksum of {file_name} is {error}") from None


def _read(path: object, purpose: str, remedy: str) -> str:
    try:
        return Path(str(path)).read_text()
    except OSError as error:
        raise SitewrightError(
            f"{path}: {error.strerror}; {purpose}", f"{remedy}, or start the lab: `sitewright lab up`."
        ) from error
