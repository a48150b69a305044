"""Serves the provider to the engine over gRPC.

`pulumi.provider.experimental` does the marshalling. What it lacks is added here: errors reach the engine
without a traceback, and a run that failed half-way is reported as a resource that must be finished.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf import any_pb2  # type: ignore[import-untyped]
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc, status_pb2

from sitewright.errors import SitewrightError
from sitewright.provider.failures import NotDone
from sitewright.provider.progress import EngineLog
from sitewright.provider.provider import SitewrightProvider
from sitewright.provider.schema import VERSION

_GRACE = 15
"""Seconds that calls in progress get to answer after their plays were stopped."""

_CALLS = ("Check", "Diff", "Create", "Read", "Update", "Delete", "Configure", "GetSchema")

Call = Callable[[Any, Any, Any], Awaitable[Any]]


def _plain_errors(call: Call) -> Call:
    """The call of the SDK, with our errors as a status. The SDK hides an error behind one whose message is a
    traceback."""

    @functools.wraps(call)
    async def wrapper(self: Any, request: Any, context: Any) -> Any:
        try:
            return await call(self, request, context)
        except Exception as wrapped:
            error = wrapped.__context__
            if isinstance(error, NotDone):
                await context.abort(grpc.StatusCode.UNKNOWN, str(error), _init_failed(error))
            if isinstance(error, SitewrightError):
                await context.abort(grpc.StatusCode.UNKNOWN, str(error))
            raise

    return wrapper


def _init_failed(error: NotDone) -> tuple[tuple[str, bytes], ...]:
    """The status detail by which the engine keeps a resource and finishes it in the next update."""
    detail = provider_pb2.ErrorResourceInitFailed(
        id=error.identity, properties=PropertyValue.marshal_map(error.properties), reasons=[str(error)]
    )
    packed = any_pb2.Any()
    packed.Pack(detail)
    code: int = grpc.StatusCode.UNKNOWN.value[0]
    status = status_pb2.Status(code=code, message=str(error), details=[packed])
    return (("grpc-status-details-bin", status.SerializeToString()),)


class Servicer(ProviderServicer):
    pass


for _name in _CALLS:
    setattr(Servicer, _name, _plain_errors(getattr(ProviderServicer, _name)))


def main() -> None:
    """`pulumi-resource-sitewright ENGINE_ADDRESS`: prints the port, serves until the engine ends it."""
    parser = argparse.ArgumentParser(
        prog="pulumi-resource-sitewright", description="Started by the Pulumi engine."
    )
    parser.add_argument("engine", help="address of the engine")
    address = parser.parse_known_args()[0].engine
    asyncio.run(_serve(address))


async def _serve(address: str) -> None:
    provider = SitewrightProvider(log=EngineLog(address))
    server = grpc.aio.server(options=_GRPC_CHANNEL_OPTIONS)
    servicer = Servicer([address], VERSION, provider, engine_address=address)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ending = asyncio.create_task(_end_when_told(provider, server))
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()
    ending.cancel()


async def _end_when_told(provider: SitewrightProvider, server: grpc.aio.Server) -> None:
    """When told to end, or when the engine is gone: stop the plays, then serving. A SIGINT comes from the
    engine, which has no more work for us; the terminal's reaches only the engine, as plugins have a process
    group of their own, and the engine then says by `Cancel` what to do."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    loop.add_signal_handler(signal.SIGINT, told.set)
    engine = os.getppid()
    # Asked for every second: a death signal from the kernel would come too early, whenever the thread of the
    # engine ends that happened to start us.
    while os.getppid() == engine:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), 1)
            break
    await provider.cancel()
    await server.stop(grace=_GRACE)
