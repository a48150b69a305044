"""Run one BMC: `python -m lab.bmc x1000c0s0b0 [--environment lab]`. Ends on SIGTERM; its nodes stay on.

Certificate and key are `tls.crt` and `tls.key` in `bmc/<xname>/` of the lab's state directory; the one user
is `bmc.username` of the site file, with the password in the file `bmc.password_file` names.
"""

import argparse
import logging
import sys
from urllib.parse import urlsplit

from lab import emulator, paths
from lab.bmc import server
from lab.bmc.boot import Boot, Surroundings
from lab.bmc.driver import Board, NodeSystems
from lab.bmc.power import NodePower
from lab.bmc.qemu import QemuBoot
from lab.bmc.report import Report
from sitewright.errors import SitewrightError
from sitewright.provisioning.redfish import bmc_of
from sitewright.site import Node, Site, load


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.bmc", description=__doc__.splitlines()[0])
    parser.add_argument("bmc", help="xname of the BMC")
    parser.add_argument("--environment", default="lab", help="name or path of the site file (default: lab)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        serve(load(arguments.environment), arguments.bmc)
    except SitewrightError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


def serve(site: Site, bmc: str) -> None:
    """Until the process ends."""
    nodes = nodes_of(site, bmc)
    user = bmc_of(site, nodes[0], from_operator=False)
    listener = server.listen(nodes[0].bmc_address, urlsplit(user.url).port or 443)
    surroundings = Surroundings.of(site)
    emulated = {node.xname for node in site.emulated_nodes}
    boards = [board(node, surroundings, node.xname in emulated) for node in nodes]
    files = paths.state_dir() / "bmc" / bmc
    password_file = server.write_password_file(files / "htpasswd", user.username, user.password)
    app = server.emulator(NodeSystems(boards), password_file, files)
    https = server.https_server(app, listener, files / "tls.crt", files / "tls.key")
    for each in boards:
        each.power.adopt()
    print(
        f"bmc {bmc}: Redfish on {https.host}:{https.port} for {', '.join(node.xname for node in nodes)}",
        flush=True,
    )
    https.serve_forever()


def nodes_of(site: Site, bmc: str) -> list[Node]:
    nodes = [node for node in site.nodes if node.bmc == bmc]
    if not nodes:
        known = ", ".join(sorted({node.bmc for node in site.nodes})[:8])
        raise SitewrightError(f"the site {site.name} has no BMC {bmc}", f"Its first BMCs: {known}.")
    return nodes


def board(node: Node, surroundings: Surroundings, emulated: bool) -> Board:
    report = Report(node.xname)
    if emulated:
        boot = QemuBoot(node, report)
        return Board(node, NodePower(node.xname, boot.run, report, emulator, boot.watch))
    return Board(node, NodePower(node.xname, Boot(node, surroundings, report).run, report))


if __name__ == "__main__":
    sys.exit(main())
