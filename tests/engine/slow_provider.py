"""A provider for tests: `slow:index:Thing` takes `seconds` to create and appends what it does to the file `diary`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pulumi.provider.experimental import provider as protocol

from tools.pulumi_glue.serving import serve


class Slow(protocol.Provider):
    async def create(self, request: protocol.CreateRequest) -> protocol.CreateResponse:
        if request.preview:
            return protocol.CreateResponse(properties=request.properties)
        self._write(request, "creating")
        await asyncio.sleep(float(str(request.properties["seconds"].value)))
        self._write(request, "created")
        return protocol.CreateResponse(resource_id=request.name, properties=request.properties)

    async def diff(self, request: protocol.DiffRequest) -> protocol.DiffResponse:
        return protocol.DiffResponse(changes=False)

    async def delete(self, request: protocol.DeleteRequest) -> None:
        self._write(request, "deleted")

    def _write(self, request: protocol.CreateRequest | protocol.DeleteRequest, what: str) -> None:
        with Path(str(request.properties["diary"].value)).open("a") as diary:
            diary.write(f"{what} {request.name}\n")


if __name__ == "__main__":
    serve(Slow(), "1.0.0")
