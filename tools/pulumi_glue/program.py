"""Runs one Pulumi program in this process, and reports its failure the way the official host does."""

from __future__ import annotations

import asyncio
import logging
import os
import runpy
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pulumi
from pulumi.runtime import reset_options, run_in_stack, set_all_config

# Files whose frames come before the program's own in a traceback.
LEADING = (__file__, "<frozen ", str(Path(asyncio.__file__).parent), str(Path(pulumi.__file__).parent))


def run_program(request: Any, engine_address: str) -> bool:
    """Whether the program succeeded; a failure has been logged to the engine with the program's traceback.

    request: `pulumirpc.RunRequest`.
    """
    reset_options(
        project=request.project,
        monitor_address=request.monitor_address,
        engine_address=engine_address,
        stack=request.stack,
        parallel=request.parallel,
        preview=request.dryRun,
        organization=request.organization or "organization",
    )
    set_all_config(dict(request.config), list(request.configSecretKeys))
    program = _enter(request)
    # The SDK leaves failed tasks behind on purpose; asyncio's reports about them would only puzzle an
    # operator.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(ThreadPoolExecutor(max_workers=max(request.parallel, 1) * 4))

    def main() -> None:
        runpy.run_path(str(program), run_name="__main__")

    try:
        loop.run_until_complete(run_in_stack(main))
        return True
    except BaseException as error:
        return _reported(error)
    finally:
        _cancel_pending(loop)
        loop.close()
        sys.stdout.flush()
        sys.stderr.flush()


def _enter(request: Any) -> Path:
    """The file or directory to run, after changing to the program's directory and making its imports work."""
    program = Path(os.path.normpath(Path(request.info.program_directory) / request.info.entry_point))
    os.chdir(request.pwd or request.info.program_directory)
    sys.path.insert(0, str(program if program.is_dir() else program.parent))
    sys.argv = [str(program)]
    return program


def _reported(error: BaseException) -> bool:
    """Tells the engine about a failure; True when it was none."""
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return True
    if _engine_is_stopping(error):
        return False  # Ctrl-C, or a resource failed; the engine has said so itself
    try:
        pulumi.log.error(_message(error))
    except grpc.RpcError:
        print(
            _message(error), file=sys.stderr
        )  # no engine to tell; its own output still reaches the operator
    return False


def _engine_is_stopping(error: BaseException) -> bool:
    """The SDK reports a call that the engine no longer answers in two ways."""
    if isinstance(error, pulumi.RunError):
        return str(error).startswith("Resource monitor has terminated")
    return isinstance(error, grpc.RpcError) and error.code() == grpc.StatusCode.UNAVAILABLE


def _message(error: BaseException) -> str:
    if isinstance(error, pulumi.RunError):
        return str(error)
    if isinstance(error, grpc.RpcError):
        return f"the engine refused a call of the program: {error.details()}"
    if isinstance(error, SystemExit):
        return f"the program ended with sys.exit({error.code!r})"
    return "Program failed with an unhandled exception:\n" + _own_traceback(error)


def _own_traceback(error: BaseException) -> str:
    """The traceback from the program's first line on; what led there (host, asyncio, SDK) says nothing."""
    start = error.__traceback__
    while start and start.tb_frame.f_code.co_filename.startswith(LEADING):
        start = start.tb_next
    if start is None and not isinstance(error, SyntaxError):
        start = error.__traceback__  # the SDK itself failed
    return "".join(traceback.format_exception(type(error), error, start))


def _cancel_pending(loop: asyncio.AbstractEventLoop) -> None:
    pending = asyncio.all_tasks(loop)
    for task in pending:
        task.cancel()
    if pending:
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
