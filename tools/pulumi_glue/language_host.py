"""Pulumi's language host for Python: the engine starts it, and it runs the program of a stack.

The engine finds it on PATH as `pulumi-language-python`, passes its own address as the last argument, reads
the port from the first line of standard output and calls `LanguageRuntime.Run` once. The program runs in the
main thread, so that it may install signal handlers; gRPC lives in threads beside it.

Source: the protocol `pulumirpc.LanguageRuntime`, and what the official host does with a failed program.
"""

from __future__ import annotations

import importlib.metadata
import os
import queue
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, NoReturn

import grpc  # type: ignore[import-untyped]
from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

from tools.pins import PULUMI
from tools.pulumi_glue.parent import end_with_parent
from tools.pulumi_glue.program import run_program

MESSAGE_BYTES = (
    400 << 20
)  # the engine's own limit; a kubeconfig or a manifest easily passes gRPC's default of 4 MiB
Job = Callable[[], None]


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """main_thread: jobs put there are run by the thread that called `serve`."""

    def __init__(self, engine_address: str, main_thread: queue.Queue[Job]) -> None:
        self._engine_address = engine_address
        self._main_thread = main_thread

    def Handshake(self, request: Any, context: Any) -> Any:
        self._engine_address = request.engine_address or self._engine_address
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=PULUMI)

    def About(self, request: Any, context: Any) -> Any:
        version = ".".join(str(part) for part in sys.version_info[:3])
        return language_pb2.AboutResponse(executable=sys.executable, version=version)

    def RuntimeOptionsPrompts(self, request: Any, context: Any) -> Any:
        return language_pb2.RuntimeOptionsResponse()

    def GetRequiredPlugins(self, request: Any, context: Any) -> Any:
        return language_pb2.GetRequiredPluginsResponse()  # plugins are on PATH; nothing is to be fetched

    def GetRequiredPackages(self, request: Any, context: Any) -> Any:
        return language_pb2.GetRequiredPackagesResponse()

    def GetProgramDependencies(self, request: Any, context: Any) -> Any:
        installed = sorted({(d.name, d.version) for d in importlib.metadata.distributions()})
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[
                language_pb2.DependencyInfo(name=name, version=version) for name, version in installed
            ]
        )

    def InstallDependencies(self, request: Any, context: Any) -> Iterator[Any]:
        yield language_pb2.InstallDependenciesResponse(
            stdout=b"The Python dependencies of this project are installed by `uv sync`.\n"
        )

    def GenerateProgram(self, request: Any, context: Any) -> Any:
        """Called after `pulumi import`; only the official host can write Python, so this shows the facts."""
        lines = [line for source in request.source.values() for line in source.splitlines()]
        text = "\n".join(
            ["# Imported; declare it in the program with these properties:", *(f"# {x}" for x in lines)]
        )
        return language_pb2.GenerateProgramResponse(source={"__main__.py": text.encode() + b"\n"})

    def Cancel(self, request: Any, context: Any) -> Any:
        return Empty()  # the engine stops answering the program, which ends it

    def Run(self, request: Any, context: Any) -> Any:
        outcome: futures.Future[bool] = futures.Future()

        def job() -> None:
            try:
                outcome.set_result(run_program(request, self._engine_address))
            except BaseException as error:
                outcome.set_exception(error)

        self._main_thread.put(job)
        # bail: the failure is already in the engine's log, with the program's traceback.
        return language_pb2.RunResponse(bail=not outcome.result())


def serve(engine_address: str) -> None:
    """Prints the port and runs what the engine asks for, until the engine ends this process or is gone."""
    # The engine starts plugins in a process group of their own, so SIGINT is never the operator's Ctrl-C: it
    # is the engine's wish that we end, and the engine waits for it.
    signal.signal(signal.SIGINT, _end)
    jobs: queue.Queue[Job] = queue.Queue()
    server = grpc.server(
        futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", MESSAGE_BYTES)]
    )
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(LanguageHost(engine_address, jobs), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    end_with_parent()
    print(port, flush=True)
    while True:
        jobs.get()()


def _end(signal_number: int, frame: object) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # gRPC's threads would keep an ordinary exit waiting


if __name__ == "__main__":
    serve(sys.argv[-1])
