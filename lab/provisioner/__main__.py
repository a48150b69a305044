"""Run the stand-ins: `python -m lab.provisioner [--environment lab]`. Ends on SIGTERM.

SMD, the cloud-init server, and BSS or boot-service listen where the site file's `provisioner` says, PCS beside SMD on
its usual port, and so does boot-service where the site has BSS. The state is `provisioner.db` in the lab's state
directory.
"""

import argparse
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI

from lab import paths
from lab.provisioner import boot_service, boot_service_copies, bss, cloud_init, pcs, smd
from lab.provisioner.serve import Address, Servers, listen
from lab.provisioner.store import Store
from sitewright.errors import SitewrightError
from sitewright.provisioning.redfish import Bmc, bmc_of
from sitewright.site import Site, load
from sitewright.site.sections import Provisioner

BOOT_SERVICE_PORT = 27776
PCS_PORT = 28007
# The real ones look at SMD once a minute and every five minutes. A lab that waits that long for a node teaches nothing.
REFRESH_SECONDS = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.provisioner", description=__doc__.splitlines()[0])
    parser.add_argument("--environment", default="lab", help="name or path of the site file (default: lab)")
    arguments = parser.parse_args()
    try:
        site = load(arguments.environment)
        servers = Servers({listen(address): app for address, app in applications(site).items()})
    except SitewrightError as error:
        print(error, file=sys.stderr)
        return 2
    print("provisioner: a stand-in for OpenCHAMI (SMD, BSS, cloud-init, boot-service, PCS), not the real one")
    print(f"provisioner: state in {database()}", flush=True)
    servers.run()
    return 0


def database() -> Path:
    return paths.state_dir() / "provisioner.db"


def applications(site: Site) -> dict[Address, FastAPI]:
    """Every service at its address."""
    if site.provisioner is None:
        raise SitewrightError(f"the site {site.name} has no `provisioner`", "Add it to the site file.")
    urls = site.provisioner
    paths.state_dir().mkdir(parents=True, exist_ok=True)
    store = Store(database())
    nodes = {node.xname: node for node in site.nodes}

    def bmc(xname: str) -> Bmc:
        if xname not in nodes:
            raise SitewrightError(f"{xname} is no node of the site {site.name}")
        return bmc_of(site, nodes[xname], from_operator=False)

    host = _address(urls.smd)[0]
    return {
        _address(urls.smd): smd.build(store),
        _address(urls.cloud_init): cloud_init.build(store, urls.cloud_init, REFRESH_SECONDS),
        **_boot_scripts(urls, store),
        (host, PCS_PORT): pcs.build(bmc, lambda: list(nodes)),
    }


def _boot_scripts(urls: Provisioner, store: Store) -> dict[Address, FastAPI]:
    if urls.bss is None:
        app = boot_service_copies.keep(boot_service.build(store), store, REFRESH_SECONDS)
        return {_address(urls.boots): app}
    beside = (_address(urls.smd)[0], BOOT_SERVICE_PORT)
    return {
        _address(urls.bss): bss.build(store, urls.bss, urls.cloud_init),
        beside: boot_service.build(store),
    }


def _address(url: str) -> Address:
    parts = urlsplit(url)
    return socket.gethostbyname(parts.hostname or ""), parts.port or 80


if __name__ == "__main__":
    sys.exit(main())
