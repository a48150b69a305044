"""HTTP as a booting node does it: patiently. Answers cut short are continued, busy servers asked again."""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import httpx

from lab.bmc.ipxe import BootError

CONNECT_SECONDS = 5.0
# A server may be slow, but not silent for longer than this.
SILENCE_SECONDS = 20.0
ATTEMPTS = 6
LONGEST_PAUSE = 15.0
TIMEOUT = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)

# What is told while it goes on: one line for the console.
Tell = Callable[[str], None]


class Stopped(Exception):
    """The node was switched off while it booted."""


class Fetcher:
    """transport, pause: replaced in tests."""

    def __init__(
        self,
        stop: Event,
        tell: Tell,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[int], float] | None = None,
    ) -> None:
        self._stop = stop
        self._tell = tell
        self._transport = transport
        self._pause = pause or pause_before

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        with httpx.Client(timeout=TIMEOUT, trust_env=False, transport=self._transport) as client:
            yield client

    def text(self, url: str) -> str:
        """Raises BootError, Stopped."""

        def once(client: httpx.Client) -> str:
            answer = client.get(url)
            _check(answer, url)
            return answer.text

        return self._try(url, once)

    def is_there(self, url: str) -> bool:
        with self._client() as client:
            try:
                return client.head(url).status_code < 400
            except httpx.HTTPError:
                return False

    def file(self, url: str, target: Path) -> str:
        """Download to `target`, continuing after a break where the server allows it.

        Returns: the sha256 of the whole file, in hex. Raises BootError, Stopped.
        """
        target.unlink(missing_ok=True)
        return self._try(url, lambda client: self._continue(client, url, target))

    def _continue(self, client: httpx.Client, url: str, target: Path) -> str:
        have = target.stat().st_size if target.exists() else 0
        # Compressed on the way, a length or a range would count other bytes than ours.
        headers = {"accept-encoding": "identity"} | ({"range": f"bytes={have}-"} if have else {})
        with client.stream("GET", url, headers=headers) as answer:
            if answer.status_code == 416:  # what we have is longer than what is there: begin anew
                target.unlink()
                raise httpx.ReadError("the file became shorter while it was fetched")
            _check(answer, url)
            have = have if answer.status_code == 206 else 0
            total = have + int(answer.headers.get("content-length", 0))
            self._save(answer, target, have, total)
        return digest_of(target)

    def _save(self, answer: httpx.Response, target: Path, have: int, total: int) -> None:
        told = time.monotonic()
        with target.open("r+b" if have else "wb") as file:
            file.seek(have)
            for chunk in answer.iter_bytes():
                if self._stop.is_set():
                    raise Stopped
                file.write(chunk)
                have += len(chunk)
                if time.monotonic() - told > 5:
                    told = time.monotonic()
                    self._tell(f"{have >> 20} of {total >> 20} MiB")

    def _try(self, url: str, once: Callable[[httpx.Client], str]) -> str:
        """`once`, again after each passing failure, ATTEMPTS times at most."""
        with self._client() as client:
            for attempt in range(1, ATTEMPTS + 1):
                if self._stop.is_set():
                    raise Stopped
                try:
                    return once(client)
                except (httpx.TransportError, _Busy) as error:
                    reason = _reason(error)
                    if attempt == ATTEMPTS:
                        raise BootError(f"{url}: {reason}, after {ATTEMPTS} attempts") from error
                seconds = self._pause(attempt)
                self._tell(f"{url}: {reason}; again in {seconds:.1f} s")
                if self._stop.wait(seconds):
                    raise Stopped
        raise AssertionError("unreachable")


class _Busy(Exception):
    """An answer that says: not now."""


def pause_before(attempt: int) -> float:
    """Seconds to wait, doubled each time and spread, so that a row of nodes does not come back at once."""
    return min(LONGEST_PAUSE, 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.5)


def _check(answer: httpx.Response, url: str) -> None:
    if answer.status_code in (429, 500, 502, 503, 504):
        raise _Busy(f"the server answered {answer.status_code} {answer.reason_phrase}")
    if answer.status_code >= 300:
        raise BootError(f"{url}: the server answered {answer.status_code} {answer.reason_phrase}")


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS:g} s"
    if isinstance(error, httpx.TimeoutException):
        return f"no data for {SILENCE_SECONDS:g} s"
    if isinstance(error, httpx.RemoteProtocolError):
        return "the answer was cut short"
    return str(error) or type(error).__name__


def digest_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
