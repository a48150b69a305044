"""Whether the machine that asks gets a certificate: each rule in turn, the cheap ones first."""

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

from modules.nodes.node_identity_service import certificate_request
from modules.nodes.node_identity_service.certificate_request import GROUP, PREFIX
from modules.nodes.node_identity_service.cluster import Cluster
from modules.nodes.node_identity_service.provisioner import Provisioner
from modules.nodes.node_identity_service.refusals import (
    NO_CERTIFICATE,
    OTHER_NAME,
    RUNNING,
    STALE_BOOT,
    Refused,
)

KUBELET_PORT = 10250
Subject = tuple[tuple[str, str], ...]
CLOCKS_DIFFER = 60  # seconds by which the provisioner's clock may be ahead


class BootRecord(Protocol):
    """When nodes booted. proof: what a node did then, as the record knows it; `x1000c0s0b0n0 <proof> 20 s ago`."""

    proof: str

    async def booted(self, xname: str) -> int:
        """When the node did so last, in Unix time; 0 for never. Raises: Refused where it cannot be told."""
        ...


@dataclass(frozen=True)
class Granted:
    certificate: str
    xname: str
    epoch: int


@dataclass(frozen=True)
class Rules:
    """pools: those of this cluster. boot_seconds: how long after its boot a node may ask.

    kubelet_port: where a running node answers; another one in tests.
    """

    provisioner: Provisioner
    boots: BootRecord
    cluster: Cluster
    pools: tuple[str, ...]
    boot_seconds: int
    kubelet_port: int = KUBELET_PORT

    async def decide(self, address: str, pem: str) -> Granted:
        """address: of the connection, the only thing about a node that it cannot choose. Raises: Refused."""
        xname = await self.provisioner.xname(address)
        digest = certificate_request.check(pem, xname)
        await self.provisioner.require_member(xname, self.pools)
        epoch = await self.boots.booted(xname)
        self._require_fresh(xname, epoch)
        await self._require_not_running(xname, address)
        await self.cluster.claim(xname, epoch, digest)
        return Granted(await self.cluster.sign(xname, epoch, digest, pem), xname, epoch)

    async def starting(self, address: str) -> str:
        """The node at this address, which does not run yet: what says so may be that node. Raises: Refused."""
        xname = await self.provisioner.xname(address)
        await self.provisioner.require_member(xname, self.pools)
        await self._require_not_running(xname, address)
        return xname

    async def recognise(self, address: str, subject: Subject) -> str:
        """The node at this address, whose certificate the client has. subject: of that; empty where it showed none.

        Raises: Refused. Not asked is how long ago it booted: who has the key of a node's certificate is the node.
        """
        xname = await self.provisioner.xname(address)
        if not subject:
            raise Refused(NO_CERTIFICATE, "this is for a node that shows the certificate it got here")
        wanted = {("organizationName", GROUP), ("commonName", PREFIX + xname)}
        if len(subject) != len(wanted) or set(subject) != wanted:
            raise Refused(OTHER_NAME, f"the certificate is not of exactly {PREFIX}{xname} in {GROUP}")
        await self.provisioner.require_member(xname, self.pools)
        return xname

    def _require_fresh(self, xname: str, epoch: int) -> None:
        age = time.time() - epoch
        if not -CLOCKS_DIFFER <= age <= self.boot_seconds:
            when = f"{age:.0f} s ago" if epoch else "never"
            raise Refused(STALE_BOOT, f"{xname} {self.boots.proof} {when}, not within {self.boot_seconds} s")

    async def _require_not_running(self, xname: str, address: str) -> None:
        """A node whose kubelet answers has its identity; who asks from its address is then a pod on it."""
        try:
            async with asyncio.timeout(1):
                _, writer = await asyncio.open_connection(address, self.kubelet_port)
        except (OSError, TimeoutError):
            return
        writer.close()
        raise Refused(RUNNING, f"{xname} runs: its kubelet answers, so it needs no first certificate")
