"""Property values of the Pulumi protocol as plain Python, and back.

`pulumi.provider.experimental` hands unknown values through as the engine's sentinel strings; everything here
treats them as such and never as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime import rpc

UNKNOWN = PropertyValue(rpc.UNKNOWN)
"""A value that only the update will know."""

_SENTINELS = frozenset(
    {
        rpc.UNKNOWN,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # bool
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # array
        "030794c1-ac77-496b-92df-f27374a8bd58",  # asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # archive
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
    }
)
"""pulumi sdk/go/common/resource/plugin/rpc.go, one constant for each kind of value."""


def is_unknown(value: PropertyValue) -> bool:
    """Whether the value itself is unknown; a map with unknown entries is not."""
    return isinstance(value.value, str) and value.value in _SENTINELS


def has_unknown(value: PropertyValue) -> bool:
    """Whether the value or anything in it is unknown."""
    return is_unknown(value) or any(has_unknown(child) for _, child in children(value))


def children(value: PropertyValue) -> Iterator[tuple[str, PropertyValue]]:
    """The entries of a map or list, each with the end of its property path (`.name`, `["a b"]`, `[0]`)."""
    if isinstance(value.value, Mapping):
        for key, child in value.value.items():
            yield path_key(key), child
    elif isinstance(value.value, Sequence) and not isinstance(value.value, str):
        for index, child in enumerate(value.value):
            yield f"[{index}]", child


def path_key(key: str) -> str:
    """A map's key as the end of a Pulumi property path."""
    plain = key.replace("_", "a")
    return f".{key}" if plain.isascii() and plain.isalnum() and not plain[0].isdigit() else f'["{key}"]'


def plain(value: PropertyValue) -> Any:
    """The value as Python data, secrets in clear. Whole numbers become int: the protocol only has doubles."""
    inner = value.value
    if isinstance(inner, Mapping):
        return {key: plain(child) for key, child in inner.items()}
    if isinstance(inner, Sequence) and not isinstance(inner, str):
        return [plain(child) for child in inner]
    if isinstance(inner, float) and inner.is_integer():
        return int(inner)
    return inner


def to_property(value: Any, secret: bool = False) -> PropertyValue:
    """Python data as a property value. Raises: TypeError for what JSON cannot say."""
    if isinstance(value, Mapping):
        return PropertyValue({str(key): to_property(child) for key, child in value.items()}, secret)
    if isinstance(value, (list, tuple)):
        return PropertyValue([to_property(child) for child in value], secret)
    if isinstance(value, int) and not isinstance(value, bool):
        return PropertyValue(float(value), secret)
    return PropertyValue(value, secret)


def secret_texts(value: PropertyValue) -> Iterator[str]:
    """Every text below a secret, to be hidden wherever it appears. Numbers and booleans are written as
    text."""
    if value.is_secret:
        yield from _texts(plain(value))
    else:
        for _, child in children(value):
            yield from secret_texts(child)


def texts_of(data: Any) -> list[str]:
    """Every text and number in plain data."""
    return list(_texts(data))


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, Mapping):
        for child in data.values():
            yield from _texts(child)
    elif isinstance(data, list):
        for child in data:
            yield from _texts(child)
    elif data is not None and not isinstance(data, bool):
        yield str(data)
