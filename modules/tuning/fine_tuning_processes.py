"""One process per GPU of a run: how they are started, and how they stop at the same step. Runs in the pod too.

torchrun would do the first, but it ends with 1 at a SIGTERM, whatever its workers wrote before they left: the status
of a run that no other try would help.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROCESSES = "TRAIN_PROCESSES"  # variable of the pod: how many
HOPELESS, BROKEN, STOPPED = 1, 70, 75  # exit statuses, of one process as of the whole run
LOOK_SECONDS = 0.2
LEAVE_SECONDS = 30  # after one of them has ended; what waits for it would wait for ever


def count() -> int:
    """Processes of the whole run."""
    return int(os.environ.get(PROCESSES, "1"))


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def is_worker() -> bool:
    return "RANK" in os.environ


def together(stop: bool) -> bool:
    """Whether one of the processes is to stop. All of them ask after the same step: one that stopped alone would
    leave the others waiting for its part of the next."""
    if count() == 1:
        return stop
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    told = torch.tensor([float(stop)], device=device)
    torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX)
    return bool(told.item())


def wait_for_all() -> None:
    if count() > 1:
        import torch

        torch.distributed.barrier()


def launch(module: str, directory: Path) -> int:
    """Run `python -m module directory` once per process, and pass a SIGTERM on. Returns the status of the whole."""
    started: list[subprocess.Popen[bytes]] = []
    told: list[int] = []

    def pass_on(number: int, _: object) -> None:
        told.append(number)
        for process in started:
            process.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    variables = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        while len(started) < count() and not told:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", module, str(directory)],
                    env={**variables, **_place(len(started))},
                    # What all say, the first says.
                    stdout=None if not started else subprocess.DEVNULL,
                )
            )
        _wait(started)
    finally:
        for process in started:
            process.kill()
    return status([process.wait() for process in started], bool(told))


def _place(place: int) -> dict[str, str]:
    return {"RANK": str(place), "LOCAL_RANK": str(place), "WORLD_SIZE": str(count())}


def _wait(started: list[subprocess.Popen[bytes]]) -> None:
    """Until all have ended, or one failed and the others had time to say why they cannot go on."""
    failed_at = None
    while any(process.poll() is None for process in started):
        if failed_at is None and any(process.poll() for process in started):
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() - failed_at > LEAVE_SECONDS:
            return
        time.sleep(LOOK_SECONDS)


def status(statuses: list[int], told: bool) -> int:
    """Of the whole run. told: a SIGTERM came; what it ended before a first step is stopped too, and goes on later."""
    failed = {one for one in statuses if one}
    if statuses and not failed:
        return 0
    if HOPELESS in failed:
        return HOPELESS
    return STOPPED if told or failed == {STOPPED} else BROKEN
