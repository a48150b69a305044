"""Kubernetes quantities: `16Gi`, `500m`, `1e3`."""

import re
from decimal import ROUND_UP, Decimal

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([-+]?[0-9]+))?([KMGTPE]i|[mkMGTPE])?")
_SUFFIXES = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(1000)} | {
    f"{prefix}{binary}": Decimal(1024 if binary else 1000) ** power
    for power, prefix in enumerate("KMGTPE", start=1)
    for binary in ("i", "")
    if (prefix, binary) != ("K", "")
}


def parse(text: str | int | float) -> Decimal:
    """The number a quantity stands for. Raises ValueError where it is none."""
    if not (match := _QUANTITY.fullmatch(str(text))):
        raise ValueError(f"{text!r} is not a Kubernetes quantity (for example 500m, 2 or 16Gi)")
    number, exponent, suffix = match.groups()
    return Decimal(number) * Decimal(10) ** int(exponent or 0) * _SUFFIXES[suffix or ""]


def whole(text: str | int | float) -> int:
    """The quantity as an integer (bytes, mostly), rounded up as Kubernetes does."""
    return int(parse(text).to_integral_value(rounding=ROUND_UP))
