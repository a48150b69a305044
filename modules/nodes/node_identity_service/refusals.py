"""Why a node gets no certificate, in words for its console and a code for its program."""

from dataclasses import dataclass

BAD_REQUEST = "bad-request"
UNKNOWN_ADDRESS = "unknown-address"
OTHER_NAME = "other-name"
NOT_OURS = "not-ours"
STALE_BOOT = "stale-boot"
RUNNING = "running"
ALREADY_ISSUED = "already-issued"
NO_CERTIFICATE = "no-certificate"
TOO_OFTEN = "too-often"
TOO_LARGE = "too-large"
TRY_AGAIN = "try-again"

STATUS = {
    BAD_REQUEST: 422,
    UNKNOWN_ADDRESS: 403,
    OTHER_NAME: 403,
    NOT_OURS: 403,
    STALE_BOOT: 403,
    RUNNING: 403,
    ALREADY_ISSUED: 409,
    NO_CERTIFICATE: 401,
    TOO_OFTEN: 429,
    TOO_LARGE: 413,
    TRY_AGAIN: 503,
}
RETRY_AFTER = {TOO_OFTEN: 30, TRY_AGAIN: 5}
"""Seconds, of those that may be granted later without another boot."""


@dataclass
class Refused(Exception):
    """code: one of the above. reason: for people."""

    code: str
    reason: str
