"""Values of served models and of what stands in front of them."""

import re
from typing import Any

# Upper bounds of the buckets in which vLLM 0.32 counts how long requests wait for their first token (v1/metrics/
# loggers.py). How many waited no longer than something between two of them nobody could tell.
FIRST_WORD_BOUNDS = (0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)


def first_word_bound(seconds: float) -> float:
    if seconds not in FIRST_WORD_BOUNDS:
        known = ", ".join(f"{bound:g}" for bound in FIRST_WORD_BOUNDS)
        raise ValueError(f"vLLM counts requests up to {known} s; {seconds:g} is none of them")
    return seconds


MOST = 10**12  # Redis's Lua counts exactly up to 2**53


def allowance(number: int) -> int:
    if not 1 <= number <= MOST:
        raise ValueError(f"{number:,} is not allowed; it must be 1 to {MOST:,}")
    return number


_UNITS = {"m": 60, "h": 3600, "d": 24 * 3600}


def period(value: Any) -> int:
    """Seconds of a period: `30d` → 2592000."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", value) if isinstance(value, str) else None
    if not match:
        raise ValueError(f"{value!r} is not a period; write minutes, hours or days like 45m, 12h or 30d")
    return int(match[1]) * _UNITS[match[2]]


def as_period(seconds: int) -> str:
    """`2592000` → `30d`: the largest unit that divides it."""
    unit = next(unit for unit in ("d", "h", "m") if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def named(value: Any) -> Any:
    """What is written as a name alone, as what it stands for."""
    return {"name": value} if isinstance(value, str) else value
