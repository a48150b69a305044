"""What the log says of a store that may be away: once a minute for each cause, and once that it is back.

Mounted beside the other `llm_gateway_*.py`.
"""

import logging
import time

SAY_SECONDS = 60.0
log = logging.getLogger("sitewright.gateway")


class Outage:
    """away, back: the lines; the first is followed by the error, the second by the time it took."""

    def __init__(self, away: str, back: str) -> None:
        self._away, self._back = away, back
        self._since: float | None = None
        self._said: dict[str, float] = {}  # when, by the kind of error
        self._told = False  # whether it said so this time

    def began(self, error: Exception) -> None:
        """It did not answer, or said no."""
        now, kind = time.monotonic(), type(error).__name__
        self._since = now if self._since is None else self._since
        if now - self._said.get(kind, float("-inf")) >= SAY_SECONDS:
            self._said[kind], self._told = now, True
            log.error("%s: %s: %s", self._away, kind, error)

    def answered(self, asked: float) -> None:
        """It answered what was asked at `asked`, on time.monotonic()."""
        # An answer to what was asked before it went away says nothing.
        if self._since is not None and asked > self._since:
            if self._told:
                log.warning("%s after %.0f s", self._back, asked - self._since)
            self._since, self._told = None, False
