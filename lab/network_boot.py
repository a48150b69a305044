"""What firmware that boots from the network is given: iPXE over TFTP, and the first script for iPXE.

firmware ─DHCP, TFTP→ iPXE ─DHCP, TFTP→ first script ─HTTP→ the node's own script at the provisioner

The first script is ours, and not the provisioner's address itself: firmware that is left by an iPXE without a script
looks for a disk and stops, and a node is to wait for its provisioner.
Source: dnsmasq(8); RFC 4578 (architecture of the client: 7 is x86-64 UEFI); iPXE says that it is one in option 175.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from lab import paths

IPXE = Path("/usr/lib/ipxe/snponly.efi")
FIRST_SCRIPT = "first.ipxe"
WAIT_SECONDS = 5


def directory() -> Path:
    """What TFTP serves."""
    return paths.state_dir() / "tftp"


def dnsmasq_lines(interface: str, macs: Iterable[str]) -> list[str]:
    """interface: where TFTP is served; macs: of the nodes that boot so."""
    return [
        f"enable-tftp={interface}",
        f"tftp-root={directory()}",
        *(f"dhcp-mac=set:network-boot,{mac}" for mac in macs),
        "dhcp-match=set:uefi,option:client-arch,7",
        "dhcp-match=set:ipxe,175",
        f"dhcp-boot=tag:network-boot,tag:uefi,tag:!ipxe,{IPXE.name}",
        f"dhcp-boot=tag:network-boot,tag:ipxe,{FIRST_SCRIPT}",
    ]


def write(boot_script: str) -> None:
    """Put both files where TFTP serves them. boot_script: URL that nodes ask for theirs, with `?mac=`."""
    directory().mkdir(parents=True, exist_ok=True)
    shutil.copyfile(IPXE, directory() / IPXE.name)
    (directory() / FIRST_SCRIPT).write_text(first_script(boot_script))


def first_script(boot_script: str) -> str:
    """netX is the card that iPXE itself was loaded by."""
    url = f"{boot_script}?mac=${{netX/mac}}"
    return f"""#!ipxe
:ask
chain --autofree {url} ||
echo sitewright: there was no boot script, or it ended; again in {WAIT_SECONDS} s
sleep {WAIT_SECONDS}
goto ask
"""
