"""The keeper calls a reconciler once at a time per object: on change, when due, and after a failure."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.hypervisor import keeper
from lab.hypervisor.api import Conflict, Key
from lab.hypervisor.keeper import Keeper

KEY = Key("lab", "svc-cp")


def calls_of(
    answers: list[float | Exception | None], script: Callable[[Keeper], None] = lambda _: None
) -> list[bool]:
    """Wakes the keeper once and gives its reconciler one answer per call. Returns `changed` of each call."""
    calls: list[bool] = []
    pending = iter(answers)

    def reconcile(key: Key, changed: bool) -> float | None:
        calls.append(changed)
        answer = next(pending)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run() -> None:
        kept = Keeper("Thing", reconcile, ThreadPoolExecutor(2))
        kept.wake(KEY)
        script(kept)
        for _ in range(200):
            await asyncio.sleep(0.01)
            if len(calls) == len(answers):
                break
        await asyncio.sleep(0.05)
        await kept.stop()

    asyncio.run(run())
    return calls


def test_an_object_with_nothing_due_is_looked_at_once() -> None:
    assert calls_of([None]) == [True]


def test_an_object_is_looked_at_again_when_due() -> None:
    assert calls_of([0.01, 0.01, None]) == [True, False, False]


def test_many_changes_at_once_are_one_look() -> None:
    assert calls_of([None], lambda kept: [kept.wake(KEY) for _ in range(5)] and None) == [True]


def test_a_failure_is_tried_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(keeper, "MAX_BACKOFF", 0.01)
    assert calls_of([RuntimeError("no API"), None]) == [True, False]
    assert "Thing lab/svc-cp: no API; again in" in caplog.text


def test_a_conflict_is_tried_again_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert calls_of([Conflict(409, "changed"), None]) == [True, False]
    assert caplog.text == ""


def test_an_object_is_never_looked_at_twice_at_a_time() -> None:
    inside, overlaps = threading.Lock(), []

    def reconcile(key: Key, changed: bool) -> float | None:
        if not inside.acquire(blocking=False):
            overlaps.append(key)
            return None
        threading.Event().wait(0.02)
        inside.release()
        return None

    async def run() -> None:
        kept = Keeper("Thing", reconcile, ThreadPoolExecutor(8))
        for _ in range(10):
            kept.wake(KEY)
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        await kept.stop()

    asyncio.run(run())
    assert overlaps == []
