"""Calls a reconciler for each object: when it changed, when it is due, and again after a failure.

One call at a time per object, in a thread, because a call may mount, download or wait for a shutdown.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor

from lab.hypervisor.api import Conflict, Key

log = logging.getLogger(__name__)

MAX_BACKOFF = 30.0  # seconds between two tries of an object whose reconciler keeps failing
_CONFLICT_DELAY = 0.05

# (object, whether something changed) → seconds until the next look, None: no look until something changes.
Reconcile = Callable[[Key, bool], float | None]


class Keeper:
    def __init__(self, name: str, reconcile: Reconcile, threads: Executor) -> None:
        self._name = name
        self._reconcile = reconcile
        self._threads = threads
        self._woken: dict[Key, asyncio.Event] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    def wake(self, key: Key) -> None:
        """Look at the object now, or right after the look under way. To be called in the event loop."""
        self._woken.setdefault(key, asyncio.Event()).set()
        if key not in self._tasks:
            self._tasks[key] = asyncio.get_running_loop().create_task(self._keep(key))

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    async def _keep(self, key: Key) -> None:
        woken, failures = self._woken[key], 0
        delay: float | None = 0.0
        while delay is not None or woken.is_set():
            changed = await _sleep(woken, delay)
            woken.clear()
            try:
                delay = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._reconcile, key, changed
                )
                failures = 0
            except Conflict:
                delay = _CONFLICT_DELAY  # the object changed meanwhile; nothing is wrong
            except Exception as problem:
                failures += 1
                delay = min(2.0 ** (failures - 1), MAX_BACKOFF)
                log.warning("%s %s: %s; again in %.0f s", self._name, key, problem, delay)
                log.debug("%s %s", self._name, key, exc_info=True)
        del self._woken[key], self._tasks[key]  # nothing due: the next `wake` starts again


async def _sleep(woken: asyncio.Event, delay: float | None) -> bool:
    """Wait for a change, at most `delay` seconds. Returns whether there was one."""
    if woken.is_set():
        return True
    try:
        await asyncio.wait_for(woken.wait(), delay)
    except TimeoutError:
        return False
    return True
