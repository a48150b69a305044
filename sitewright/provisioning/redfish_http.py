"""HTTP as BMCs speak it: one origin, TLS with a pinned CA, redirects, and errors an operator can act on.

Source: DMTF DSP0266 (Redfish), sections on redirects, sessions and error responses. Real BMCs (iLO,
Supermicro, openBMC) redirect, log-ins too, to the same path with a slash.
"""

import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from sitewright.errors import SitewrightError

MAX_REDIRECTS = 5
GET_ATTEMPTS = 3
# A BMC that is busy answers these; asking again is right for a GET, never for a POST.
BUSY = (502, 503, 504)


class RedfishError(SitewrightError):
    """A BMC that could not be asked, or refused. status: the HTTP status, 0 if there was no answer."""

    def __init__(self, message: str, hint: str = "", status: int = 0, message_id: str = "") -> None:
        super().__init__(message, hint)
        self.status = status
        self.message_id = message_id


class Unanswered(RedfishError):
    """A request that was sent, and whose answer did not come: the BMC may have done it or not."""


@dataclass(frozen=True)
class Bmc:
    """One BMC and the system of it that is meant.

    name:     for messages, the node's or the BMC's xname.
    url:      https://host[:port].
    ca_file:  the CA that signed its certificate; None: the system's CAs.
    system:   id or name of the ComputerSystem; "": the BMC has only one.
    timeout:  seconds to wait for one answer.
    session:  log in once (SessionService) instead of sending the password with each request.
    """

    name: str
    url: str
    username: str
    password: str = field(repr=False)
    ca_file: Path | None = None
    system: str = ""
    timeout: float = 10.0
    session: bool = False

    def __str__(self) -> str:
        return f"BMC of {self.name} ({self.url})"


class RedfishHttp:
    """A connection to one BMC. transport, sleep: replaced in tests."""

    def __init__(
        self,
        bmc: Bmc,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if urlsplit(bmc.url).scheme != "https":
            raise RedfishError(f"{bmc}: only https is spoken with a BMC; no credentials were sent")
        self.bmc = bmc
        self.sleep = sleep
        self._session_path = ""
        self._client = httpx.Client(
            base_url=bmc.url,
            # Created here, with the CA pinned: the environment's proxies and CAs are no business of a BMC.
            verify=_tls(bmc),
            trust_env=False,
            timeout=bmc.timeout,
            transport=transport,
            headers={"accept": "application/json", "odata-version": "4.0"},
        )

    def __enter__(self) -> "RedfishHttp":
        if self.bmc.session:
            self._log_in()
        else:
            self._client.auth = httpx.BasicAuth(self.bmc.username, self.bmc.password)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._session_path:
                self._client.delete(self._session_path)
        except httpx.HTTPError:
            pass  # The BMC drops the session by itself after some minutes.
        finally:
            self._client.close()

    def _log_in(self) -> None:
        body = {"UserName": self.bmc.username, "Password": self.bmc.password}
        answer = self.post("/redfish/v1/SessionService/Sessions", body)
        token = answer.headers.get("x-auth-token")
        if not token:
            raise RedfishError(f"{self.bmc}: the log-in was accepted but brought no X-Auth-Token")
        self._client.headers["x-auth-token"] = token
        self._session_path = urlsplit(answer.headers.get("location", "")).path

    def get(self, path: str) -> dict[str, Any]:
        """The resource at `path`. Raises RedfishError."""
        answer = self.get_response(path)
        try:
            resource = answer.json()
        except ValueError:
            resource = None
        if not isinstance(resource, dict):
            raise RedfishError(f"{self.bmc}: {path} answered with something that is no JSON object")
        return resource

    def get_response(self, path: str) -> httpx.Response:
        for attempt in range(1, GET_ATTEMPTS + 1):
            try:
                answer = self._send("GET", path)
            except httpx.TransportError as error:
                # A connection cut halfway is worth another try; one that was never made is not.
                if attempt == GET_ATTEMPTS or isinstance(error, httpx.ConnectError | httpx.TimeoutException):
                    raise self._no_answer(error) from error
            else:
                if answer.status_code not in BUSY or attempt == GET_ATTEMPTS:
                    return self._checked("GET", path, answer)
            self.sleep(attempt * random.uniform(0.5, 1.5))
        raise AssertionError("unreachable")

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """Sent once: a BMC may have acted on a request whose answer was lost. Raises: Unanswered then."""
        try:
            return self._checked("POST", path, self._send("POST", path, body))
        except (httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError) as error:
            lost = self._no_answer(error)
            raise Unanswered(lost.message, lost.hint) from error
        except httpx.TransportError as error:
            raise self._no_answer(error) from error

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """Send and follow redirects within the BMC: 307 and 308 repeat the request, 303 becomes a GET."""
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._client.request(method, path, json=body)
            location = answer.headers.get("location", "")
            if not (answer.is_redirect and location):
                return answer
            target = answer.url.join(location)
            self._check_redirect(answer, target, method, path)
            if answer.status_code == 303:
                method, body = "GET", None
            path = target.raw_path.decode()
        raise RedfishError(f"{self.bmc}: {method} {path} was redirected more than {MAX_REDIRECTS} times")

    def _check_redirect(self, answer: httpx.Response, target: httpx.URL, method: str, path: str) -> None:
        ours = answer.url
        what = f"{self.bmc}: {method} {path} was redirected ({answer.status_code}) to {target}"
        if (target.scheme, target.host, target.port) != (ours.scheme, ours.host, ours.port):
            plain = "plain http" if target.scheme != "https" else "another address"
            raise RedfishError(
                f"{what}, {plain}; refused, no credentials were sent there",
                "Give the address the BMC really answers at, or look into who answers in its place.",
            )
        # 301 and 302 do not say whether a POST is to be repeated; for the same path plus a slash it is.
        only_a_slash = target.raw_path.decode() == f"{ours.raw_path.decode()}/"
        if method == "POST" and answer.status_code in (301, 302) and not only_a_slash:
            raise RedfishError(f"{what}, which does not say that the request is to be repeated; not followed")

    def _checked(self, method: str, path: str, answer: httpx.Response) -> httpx.Response:
        status = answer.status_code
        if status < 400:
            return answer
        if status in (401, 403):
            raise RedfishError(
                f"{self.bmc}: user {self.bmc.username!r} was refused (HTTP {status}): wrong user or password",
                "Check bmc.username and the file bmc.password_file names. Do not try often: many BMCs lock"
                " an account after a few wrong passwords.",
                status,
            )
        text, message_id = error_of(answer)
        raise RedfishError(f"{self.bmc}: {method} {path}: HTTP {status}: {text}", "", status, message_id)

    def _no_answer(self, error: httpx.TransportError) -> RedfishError:
        cause = _tls_cause(error)
        if cause is not None:
            return RedfishError(*_tls_problem(self.bmc, cause))
        if isinstance(error, httpx.TimeoutException):
            return RedfishError(
                f"{self.bmc}: no answer within {self.bmc.timeout:g} s",
                "Is its network reachable from here? A BMC that hangs needs a power cycle of its slot.",
            )
        return RedfishError(
            f"{self.bmc}: cannot be reached: {error}",
            "Check the address and port of the BMC and the route to its network.",
        )


def _tls(bmc: Bmc) -> ssl.SSLContext:
    if bmc.ca_file is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=bmc.ca_file)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or "it holds no certificate"
        raise RedfishError(
            f"{bmc}: cannot read the CA file {bmc.ca_file}: {reason}",
            "bmc.ca_file in the site file names it.",
        ) from error


def _tls_cause(error: BaseException) -> ssl.SSLError | None:
    """What TLS found fault with. A connection that ended says nothing of TLS: a load balancer without a BMC behind it
    takes a connection and ends it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError) and not isinstance(
            cause, ssl.SSLEOFError | ssl.SSLZeroReturnError
        ):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def _tls_problem(bmc: Bmc, cause: ssl.SSLError) -> tuple[str, str]:
    """Message and hint."""
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return f"{bmc}: no TLS connection: {cause.reason or cause}", "Does this port really speak https?"
    trusted = f"the CA in {bmc.ca_file}" if bmc.ca_file else "a CA this machine trusts"
    return (
        f"{bmc}: its certificate was not accepted: {cause.verify_message}; {trusted} must have signed it"
        f" for {urlsplit(bmc.url).hostname}; no credentials were sent",
        "bmc.ca_file in the site file names the CA; fetch it again if the BMC has got a new certificate.",
    )


def error_of(answer: httpx.Response) -> tuple[str, str]:
    """What a BMC says about a request it refused: text and message id ("" if it gives none)."""
    try:
        error = answer.json()["error"]
        details = error.get("@Message.ExtendedInfo") or []
        texts = [detail["Message"] for detail in details if detail.get("Message")] or [error["message"]]
        ids = [detail.get("MessageId", "") for detail in details]
        return "; ".join(texts), next(filter(None, ids), error.get("code", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return (answer.text.strip()[:200] or answer.reason_phrase or "no explanation"), ""
