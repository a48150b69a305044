"""The provider: to whom the engine's questions go."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pulumi.provider.experimental import provider as protocol

from sitewright.errors import SitewrightError
from sitewright.provider.openchami.handler import OpenChamiResources
from sitewright.provider.openchami.kinds import KINDS
from sitewright.provider.playbook_runs import PlaybookRuns
from sitewright.provider.progress import Log, NoLog
from sitewright.provider.resource import TYPE
from sitewright.provider.schema import schema


class Handler(Protocol):
    """What answers for resources of some types."""

    async def check(self, request: protocol.CheckRequest) -> protocol.CheckResponse: ...
    async def diff(self, request: protocol.DiffRequest) -> protocol.DiffResponse: ...
    async def create(self, request: protocol.CreateRequest) -> protocol.CreateResponse: ...
    async def read(self, request: protocol.ReadRequest) -> protocol.ReadResponse: ...
    async def update(self, request: protocol.UpdateRequest) -> protocol.UpdateResponse: ...
    async def delete(self, request: protocol.DeleteRequest) -> None: ...
    async def cancel(self) -> None: ...


class SitewrightProvider(protocol.Provider):
    """repository: the checkout; without it, found at the first question from the working directory upwards."""

    def __init__(self, repository: Path | None = None, log: Log | None = None) -> None:
        runs, services = PlaybookRuns(repository, log), OpenChamiResources(log or NoLog())
        self._handlers: dict[str, Handler] = {TYPE: runs, **dict.fromkeys(KINDS, services)}

    async def get_schema(self, request: protocol.GetSchemaRequest) -> protocol.GetSchemaResponse:
        return protocol.GetSchemaResponse(schema=schema())

    async def configure(self, request: protocol.ConfigureRequest) -> protocol.ConfigureResponse:
        return protocol.ConfigureResponse(
            accept_secrets=True, supports_preview=True, accept_resources=True, accept_outputs=False
        )

    async def check(self, request: protocol.CheckRequest) -> protocol.CheckResponse:
        return await self._of(request.type).check(request)

    async def diff(self, request: protocol.DiffRequest) -> protocol.DiffResponse:
        return await self._of(request.type).diff(request)

    async def create(self, request: protocol.CreateRequest) -> protocol.CreateResponse:
        return await self._of(request.type).create(request)

    async def read(self, request: protocol.ReadRequest) -> protocol.ReadResponse:
        return await self._of(request.type).read(request)

    async def update(self, request: protocol.UpdateRequest) -> protocol.UpdateResponse:
        return await self._of(request.type).update(request)

    async def delete(self, request: protocol.DeleteRequest) -> None:
        await self._of(request.type).delete(request)

    async def cancel(self) -> None:
        for handler in set(self._handlers.values()):
            await handler.cancel()

    def _of(self, token: str) -> Handler:
        """Of a child the engine names the types of its parents before its own: `a:b:Parent$c:d:Child`."""
        kind = token.rpartition("$")[2]
        if kind not in self._handlers:
            raise SitewrightError(f"{kind}: no such resource; this provider has {', '.join(self._handlers)}")
        return self._handlers[kind]
