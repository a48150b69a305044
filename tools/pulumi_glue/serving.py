"""Serves a provider written with `pulumi.provider.experimental`, with errors that an operator can read."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Awaitable
from typing import Any

import grpc.aio  # type: ignore[import-untyped]
from pulumi.provider.experimental.provider import Provider
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime.proto import provider_pb2_grpc

from sitewright.errors import SitewrightError
from tools.pulumi_glue.parent import end_with_parent

MESSAGE_BYTES = 400 << 20  # the engine's own limit


class Servicer(ProviderServicer):
    """The SDK appends a Python traceback to every error; one of ours is a message for the operator."""

    async def Check(self, request: Any, context: Any) -> Any:
        return await _plainly(super().Check(request, context), context)

    async def Diff(self, request: Any, context: Any) -> Any:
        return await _plainly(super().Diff(request, context), context)

    async def Create(self, request: Any, context: Any) -> Any:
        return await _plainly(super().Create(request, context), context)

    async def Read(self, request: Any, context: Any) -> Any:
        return await _plainly(super().Read(request, context), context)

    async def Update(self, request: Any, context: Any) -> Any:
        return await _plainly(super().Update(request, context), context)

    async def Delete(self, request: Any, context: Any) -> Any:
        return await _plainly(super().Delete(request, context), context)


async def _plainly(call: Awaitable[Any], context: Any) -> Any:
    try:
        return await call
    except Exception as error:
        original = error.__context__  # the SDK raises a new exception with the traceback as its text
        if isinstance(original, SitewrightError):
            await context.abort(grpc.StatusCode.UNKNOWN, str(original))
        raise


def serve(provider: Provider, version: str) -> None:
    """Prints the port and serves until the engine ends this process (SIGINT)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", help="address of the Pulumi engine")
    arguments, _ = parser.parse_known_args()
    end_with_parent()

    async def run() -> None:
        limit = [("grpc.max_receive_message_length", MESSAGE_BYTES)]
        server = grpc.aio.server(options=limit)
        servicer = Servicer(sys.argv[1:], version, provider, arguments.engine)
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await server.wait_for_termination()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())
