"""Hides secrets in everything that people or files get to see."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable
from typing import Any

HIDDEN = "[secret]"

_SHORTEST = 4
"""Shorter texts are not hidden: `1` or `on` would blacken every log and is no secret worth the name."""

_SHORTEST_LINE = 20
"""Lines of a secret of several lines (keys, kubeconfigs) are hidden one by one from this length on; shorter
ones, such as `apiVersion: v1`, are no secrets."""


class Redactor:
    """Replaces secrets, also in the spellings that logs give them (JSON, base64, URL, Python repr)."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._needles: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        for secret in secrets:
            self._needles |= _spellings(secret)
        longest_first = sorted(self._needles, key=lambda needle: (-len(needle), needle))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        return self._pattern.sub(HIDDEN, text) if self._pattern else text

    def data(self, value: Any) -> Any:
        """Plain data with every text in it redacted, keys too."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self(str(key)): self.data(child) for key, child in value.items()}
        if isinstance(value, list):
            return [self.data(child) for child in value]
        return value


def _spellings(secret: str) -> set[str]:
    """The secret as it may appear: whole, by line, and escaped."""
    parts = {secret, secret.strip()}
    lines = secret.splitlines()
    if len(lines) > 1:
        parts |= {line.strip() for line in lines if len(line.strip()) >= _SHORTEST_LINE}
    spelt = set()
    for part in parts:
        if len(part) < _SHORTEST:
            continue
        spelt |= {part, json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1], repr(part)[1:-1]}
        spelt |= {urllib.parse.quote(part), urllib.parse.quote(part, safe=""), part.replace("'", "'\"'\"'")}
        spelt.add(base64.b64encode(part.encode()).decode().rstrip("="))
    return spelt
