"""When nodes said that they boot: for sites whose provisioner keeps no record of boot scripts, as boot-service.

docs/node-identity.md says what such a notice proves, and what less than BSS's record.
"""

import time

from modules.nodes.node_identity_service.cluster import Cluster


class Notices:
    """A BootRecord, kept in the cluster: what one replica of the service is told counts at the others."""

    proof = "gave notice of its boot"

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def note(self, xname: str) -> int:
        """A boot of this node, now. Returns: the time, in Unix seconds."""
        now = int(time.time())
        await self._cluster.note_boot(xname, now)
        return now

    async def booted(self, xname: str) -> int:
        return await self._cluster.noted_boot(xname)
