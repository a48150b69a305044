"""Requests to the services of OpenCHAMI: tried again where that helps, many at a time where they are many."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import tenacity

from sitewright.errors import SitewrightError

TIMEOUT_SECONDS = 20.0
TRIES = 5
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds, with jitter
AT_A_TIME = 16
GONE = (200, 204, 404)  # answers to a DELETE


@dataclass(frozen=True)
class Services:
    """Base URLs as this machine reaches them, and a JWT where the site asks for one. What a site has not is empty:
    it has bss or boot_service.

    seed: base URL of the cloud-init server as nodes reach it.
    """

    smd: str
    bss: str
    cloud_init: str
    token: str | None = None
    pcs: str = ""
    boot_service: str = ""
    seed: str = ""


class Held(SitewrightError):
    """Somebody else has to give, to declare or to notice something first, and may be about to do so."""


class BusyError(Exception):
    """What another try may mend: no answer, or 5xx."""

    def __init__(self, error: SitewrightError) -> None:
        self.error = error


class Http:
    """check: what would be written is left out. pause: seconds before the second try; the later ones wait longer.

    stopped: set from another thread, it makes the next request fail. answered: requests so far.
    """

    def __init__(
        self,
        services: Services,
        check: bool = False,
        transport: httpx.BaseTransport | None = None,
        pause: float = FIRST_PAUSE,
    ) -> None:
        headers = {"Authorization": f"Bearer {services.token}"} if services.token else {}
        self._services = services
        self.only_asks = check
        self._http = httpx.Client(headers=headers, timeout=TIMEOUT_SECONDS, transport=transport)
        self._pause = pause
        self.stopped = False
        self.answered = 0

    def write(
        self, service: str, method: str, path: str, body: object = None, accept: tuple[int, ...] = ()
    ) -> httpx.Response | None:
        """As `call`; None where nothing is written."""
        return None if self.only_asks else self.call(service, method, path, body, accept)

    def call(
        self,
        service: str,
        method: str,
        path: str,
        body: object = None,
        accept: tuple[int, ...] = (),
        tries: int = TRIES,
    ) -> httpx.Response:
        """Raises: SitewrightError naming the service, the request and its answer, for 4xx at once."""
        pauses = tenacity.wait_exponential_jitter(
            multiplier=self._pause, max=LONGEST_PAUSE, jitter=self._pause
        )
        again = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(BusyError),
            stop=tenacity.stop_after_attempt(tries),
            wait=pauses,
            reraise=True,
        )
        try:
            for attempt in again:
                with attempt:
                    # What a try without an answer has made, the next one finds made.
                    made = (409,) if method == "POST" and attempt.retry_state.attempt_number > 1 else ()
                    return self._once(service, method, path, body, (*accept, *made))
        except BusyError as busy:
            raise busy.error from busy
        raise AssertionError("a try returns or raises")

    def _once(
        self, service: str, method: str, path: str, body: object, accept: tuple[int, ...]
    ) -> httpx.Response:
        if self.stopped:
            raise SitewrightError(
                f"stopped before {method} {path}", "What is done stays; run the same again."
            )
        url = getattr(self._services, service) + path
        try:
            answer = self._http.request(method, url, json=body)
        except httpx.HTTPError as error:
            raise BusyError(
                SitewrightError(
                    f"{service}: {method} {url}: no answer ({error})",
                    "Check that the service runs and try again.",
                )
            ) from error
        if answer.is_success or answer.status_code in accept:
            self.answered += 1
            return answer
        refused = SitewrightError(f"{service}: {method} {url}: {answer.status_code} {answer.text[:300]}")
        raise BusyError(refused) if answer.is_server_error else refused


def for_each(
    what: str, things: Mapping[str, Any], work: Callable[[Any], None], at_a_time: int = AT_A_TIME
) -> None:
    """Do `work` for every thing, by its xname; one that fails stops no other.

    Raises: SitewrightError with the names of those that are done and not done, and the first reason.
    """

    def tried(thing: Any) -> SitewrightError | None:
        try:
            work(thing)
        except SitewrightError as error:
            return error
        return None

    with ThreadPoolExecutor(max_workers=at_a_time) as pool:
        failures = dict(zip(things, pool.map(tried, things.values()), strict=True))
    failed = {name: error for name, error in failures.items() if error}
    if failed:
        done = [name for name in things if name not in failed]
        first = next(iter(failed.values()))
        raise SitewrightError(
            f"{what}: not done for {folded(failed)}, done for {folded(done) if done else 'none'}: {first.message}",
            "What is done stays; run the same again when the reason is mended.",
        )


def folded(xnames: Iterable[str]) -> str:
    from sitewright.site.hostlist import fold  # here: the site model takes a while to import

    return fold(xnames)
