"""The extra variables of a run as a file that Ansible reads."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_TEMPLATE_MARKS = ("{{", "{%", "{#")


def write(path: Path, variables: dict[str, Any]) -> None:
    """Write the variables as YAML, readable for the owner only.

    Values are data: a text with `{{` in it (a password may) is marked `!unsafe`, so that Ansible does not
    take it for a template.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(_flow(variables) + "\n")


def _flow(value: Any) -> str:
    """YAML in flow style: JSON, but for the mark on texts that look like templates."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(str(key))}: {_flow(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return ("!unsafe " if any(mark in value for mark in _TEMPLATE_MARKS) else "") + _text(value)
    return json.dumps(value)


def _text(value: str) -> str:
    r"""A JSON string that YAML reads alike: \u escapes only below U+FFFF, which is where YAML and JSON
    agree."""
    escaped = json.dumps(value, ensure_ascii=False)
    return "".join(
        character if _printable(character) else f"\\U{ord(character):08x}" for character in escaped
    )


def _printable(character: str) -> bool:
    """YAML 1.1's printable characters, without the line breaks that it would fold (NEL, LS, PS)."""
    code = ord(character)
    low = ((0x20, 0x7E), (0xA0, 0x2027), (0x202A, 0xD7FF))
    high = ((0xE000, 0xFEFE), (0xFF00, 0xFFFD), (0x10000, 0x10FFFF))
    return any(first <= code <= last for first, last in low + high)
