"""Which certificate the client of a connection proved to have: what the web framework does not tell the program."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

Address = tuple[str, int]
PEERS: dict[Address, tuple[tuple[str, str], ...]] = {}
"""Address and port of each open connection whose client showed a certificate → the parts of its subject.

The TLS library has verified it by then: it is of the authority of clients, in time, and the client has its key.
"""


class WithPeer(H11Protocol):
    """Keeps PEERS true while its connection is open."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        shown: dict[str, Any] | None = transport.get_extra_info("peercert")
        if shown and self.client:
            PEERS[self.client] = tuple(pair for part in shown["subject"] for pair in part)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client:
            PEERS.pop(self.client, None)
        super().connection_lost(exc)
