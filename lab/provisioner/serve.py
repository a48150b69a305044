"""Several applications in one process, each on an address of its own."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator, Mapping

import uvicorn
from fastapi import FastAPI

from sitewright.errors import SitewrightError

Address = tuple[str, int]


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # One process, several servers: the signals are handled once, for all of them.
        yield


def listen(address: Address) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises SitewrightError if the address is taken."""
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only with the protocol named does asyncio set TCP_NODELAY; without it every answer takes 40 ms longer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise SitewrightError(
            f"the provisioner cannot listen on {host}:{port}: {error.strerror}",
            f"`ss -ltnp 'sport = :{port}'` in the lab's namespace names who does.",
        ) from error
    return listener


class Servers:
    """The running servers. `run()` blocks until `stop()` or a signal."""

    def __init__(self, apps: Mapping[socket.socket, FastAPI]) -> None:
        self._listeners = list(apps)
        # No access log: supervisord would fill the disk with health checks. Errors still reach stderr.
        self._servers = [
            _Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2))
            for app in apps.values()
        ]

    def run(self) -> None:
        asyncio.run(self._serve())

    def stop(self) -> None:
        for server in self._servers:
            server.should_exit = True

    @property
    def started(self) -> bool:
        return all(server.started for server in self._servers)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
        pairs = zip(self._servers, self._listeners, strict=True)
        await asyncio.gather(*(server.serve([listener]) for server, listener in pairs))
