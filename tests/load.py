"""Open-loop load: streams that begin when their time has come, whether earlier ones have ended or not.

A closed loop waits for an answer before it asks again, so it asks least when the service is at its worst. What is
called good here is what a user gets whole: 200, an end that the model chose or a limit, and the mark of the end.
"""

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import httpx

GOOD_ENDS = ("stop", "length", "tool_calls")
QUESTION = "What is the highest mountain of the Alps?"


@dataclass
class Stream:
    """One answer. started, first, ended: on the monotonic clock; first: of the first word; model: as it was answered;
    served: the header that names the version; words: pieces that came; fault: empty where the answer came whole."""

    started: float
    first: float = 0.0
    ended: float = 0.0
    model: str = ""
    served: str = ""
    words: int = 0
    fault: str = ""
    _end: str = field(default="", repr=False)

    def take(self, line: str) -> bool:
        """One line of server-sent events. True at the mark of the end."""
        if not line.startswith("data: "):
            return False
        if line == "data: [DONE]":
            return True
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            self.fault = f"error in the stream: {event['error']}"
            return False
        self.model = event.get("model", "")
        for choice in event["choices"]:
            if choice["delta"].get("content"):
                self.first = self.first or time.monotonic()
                self.words += 1
            self._end = choice.get("finish_reason") or self._end
        return False

    def close(self, whole: bool) -> None:
        if not self.fault and not whole:
            self.fault = "truncated: no mark of the end"
        if not self.fault and self._end not in GOOD_ENDS:
            self.fault = f"finish_reason {self._end!r}"


class OpenLoop:
    """Streams at `rate` per second, with the pauses of a Poisson process, from `with` to the end of its block.

    streams: all of them, in the order they began; those still open at the end of the block get `patience` seconds.
    seed:    of the pauses. max_tokens: of each answer.
    """

    def __init__(
        self,
        url: str,
        model: str,
        rate: float,
        key: str | None = None,
        seed: int = 1,
        max_tokens: int = 32,
        patience: float = 120,
    ) -> None:
        self.streams: list[Stream] = []
        self._url, self._rate, self._patience = url, rate, patience
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        messages = [{"role": "user", "content": QUESTION}]
        self._body = {"model": model, "messages": messages, "stream": True, "max_tokens": max_tokens}
        self._body["temperature"] = 0
        self._pauses = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(self._patience + 10)

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        timeout = httpx.Timeout(60, connect=10)
        async with httpx.AsyncClient(headers=self._headers, limits=limits, timeout=timeout) as client:
            asked: set[asyncio.Task[None]] = set()
            due = time.monotonic()
            while not self._stop.is_set():
                asked.add(asyncio.create_task(self._ask(client)))
                due += self._pauses.expovariate(self._rate)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            _, late = await asyncio.wait(asked, timeout=self._patience)
            for one in late:
                one.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _ask(self, client: httpx.AsyncClient) -> None:
        stream = Stream(time.monotonic())
        self.streams.append(stream)
        whole = False
        try:
            async with client.stream("POST", f"{self._url}/chat/completions", json=self._body) as response:
                stream.served = response.headers.get("x-served-model", "")
                if response.status_code != 200:
                    stream.fault = f"{response.status_code}: {(await response.aread()).decode()[:200]}"
                    return
                async for line in response.aiter_lines():
                    whole = stream.take(line) or whole
        except httpx.HTTPError as error:
            stream.fault = f"{type(error).__name__}: {error}"
        except asyncio.CancelledError:
            stream.fault = f"open for {time.monotonic() - stream.started:.0f} s"
            raise
        finally:
            stream.ended = time.monotonic()
            stream.close(whole)

    def wait_for(self, count: int) -> None:
        """Until that many streams have ended. Raises: TimeoutError when they do not, with those that did."""
        deadline = time.monotonic() + count / self._rate + self._patience
        while len(self.streams) < count or not all(stream.ended for stream in self.streams[:count]):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{count} streams did not end: {self.said()}")
            time.sleep(0.1)

    @property
    def failed(self) -> list[Stream]:
        return [stream for stream in self.streams if stream.fault]

    def seconds_of_errors(self, since: float) -> float:
        """From `since` to the last stream that began later and failed; 0 where none did."""
        return max((stream.started - since for stream in self.failed if stream.started > since), default=0.0)

    def said(self) -> str:
        """For the message of a failed test, and for the log of a good one."""
        faults = Counter(stream.fault for stream in self.failed)
        waits = sorted(stream.first - stream.started for stream in self.streams if stream.first)
        return (
            f"{len(self.streams)} streams, {len(self.failed)} failed {dict(faults)}; first word "
            f"p50 {quantile(waits, 0.5):.2f} s, p99 {quantile(waits, 0.99):.2f} s"
        )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which that share of sorted values lies (nearest rank); nan where there is none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
