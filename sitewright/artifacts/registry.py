"""A container registry, as far as sitewright fills it: what it has, and pushing what it lacks.

Requests are made by crane, which knows the credentials of the operator's container configuration; the
registry's address is checked before, because a registry that is down deserves a sentence and not a log.
"""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sitewright.errors import SitewrightError

ANSWER_TIMEOUT = 10  # seconds until a registry counts as too slow to use
PUSH_TIMEOUT = 600  # seconds for one image
_NOT_THERE = ("404", "MANIFEST_UNKNOWN", "NAME_UNKNOWN")


class Registry:
    """url: http or https, as this machine reaches it, for example http://127.0.0.1:15000."""

    def __init__(self, url: str, crane: Path) -> None:
        self.url = url.rstrip("/")
        self._crane = crane
        self._insecure = ["--insecure"] if url.startswith("http://") else []

    def require(self) -> None:
        """Nothing, when a registry answers at the address.

        Raises: SitewrightError with the address and what was found there.
        Source: OCI Distribution Specification 1.1, end-1: `GET /v2/` answers 200, or 401 to a stranger.
        """
        scheme, _, rest = self.url.partition("://")
        address = f"{scheme}://{rest.partition('/')[0]}/v2/"
        hint = "Check registry.endpoint (and lab.publish) of the site file, and that the registry runs."
        try:
            with urllib.request.urlopen(address, timeout=ANSWER_TIMEOUT):
                return
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise SitewrightError(f"registry {address}: answered {error.code}", hint) from error
        except TimeoutError as error:
            raise SitewrightError(f"registry {address}: no answer within {ANSWER_TIMEOUT} s", hint) from error
        except (urllib.error.URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise SitewrightError(f"registry {address}: not reached: {reason}", hint) from error

    def digests(self, references: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str | None]:
        """Digest that the registry has for each (repository, tag); None where it has none."""
        with ThreadPoolExecutor(max_workers=4) as pool:
            return dict(zip(references, pool.map(self._digest, references), strict=True))

    def push(self, layout: Path, repository: str, tag: str) -> None:
        """Pushes the image of an OCI layout; layers that the registry has are not sent again."""
        reference = self._reference(repository, tag)
        done = self._run(["push", str(layout), reference], PUSH_TIMEOUT)
        if done.returncode != 0:
            raise SitewrightError(f"registry {self.url}: pushing {reference} failed: {_last(done.stderr)}")

    def _digest(self, reference: tuple[str, str]) -> str | None:
        done = self._run(["digest", self._reference(*reference)], ANSWER_TIMEOUT)
        if done.returncode == 0:
            return done.stdout.strip()
        if any(word in done.stderr for word in _NOT_THERE):
            return None
        raise SitewrightError(f"registry {self.url}: {self._reference(*reference)}: {_last(done.stderr)}")

    def _reference(self, repository: str, tag: str) -> str:
        return f"{self.url.partition('://')[2]}/{repository}:{tag}"

    def _run(self, arguments: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
        command = [str(self._crane), *arguments, *self._insecure]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired as error:
            raise SitewrightError(
                f"registry {self.url}: `crane {' '.join(arguments)}` not done within {timeout:.0f} s",
                "The registry or the network to it is too slow, or its disk is full.",
            ) from error
        except OSError as error:
            raise SitewrightError(f"{self._crane}: {error.strerror}", "Run `make tools`.") from error


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"
