"""Hostlists: `x1000c[0-7]s[0-7]b[0-1]n0` to names and back.

The grammar is the one Slurm and ClusterShell share: names separated by commas, ranges in brackets, several
brackets in a name give the product, `[0-9/3]` steps, leading zeros pad (`[08-11]` is 08 09 10 11).

ClusterShell itself is not used: it reads `@`, `!`, `&`, `^` and `*` as operators on the groups of the machine
it runs on, and takes more than a second to fold 1,500 scattered EX nodes. A test compares the two.
"""

import re
from collections.abc import Iterable

from sitewright.errors import SitewrightError

LIMIT = 200_000
"""Names one hostlist may stand for; a slip like `[0-99999999]` must not fill the memory."""

_NUMBER = re.compile(r"([0-9]+)")
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+)(?:/([0-9]+))?)?")
_STRANGE = re.compile(r"[^A-Za-z0-9._-]")


class HostlistError(SitewrightError):
    """A text that is no hostlist."""


def expand(text: str) -> list[str]:
    """The names of a hostlist, each once, in the order written; of several brackets the last counts fastest.

    Raises: HostlistError, naming the part that is wrong.
    """
    names: dict[str, None] = {}
    for item in _items(text):
        names.update(dict.fromkeys(_product(item, text)))
        if len(names) > LIMIT:
            raise HostlistError(f"{text!r} stands for more than {LIMIT:,} names")
    return list(names)


def _items(text: str) -> list[str]:
    """The text cut at the commas that are outside of brackets."""
    items, start, open_at = [], 0, None
    for index, character in enumerate(text):
        if character == "[":
            if open_at is not None:
                raise HostlistError(f"{text!r}: a bracket inside the bracket {text[open_at:index]!r}")
            open_at = index
        elif character == "]":
            if open_at is None:
                raise HostlistError(f"{text!r}: the bracket closed at character {index + 1} was not opened")
            open_at = None
        elif character == "," and open_at is None:
            items.append(text[start:index])
            start = index + 1
    if open_at is not None:
        raise HostlistError(f"{text!r}: the bracket {text[open_at:]!r} is not closed")
    items.append(text[start:])
    stripped = [item.strip() for item in items]
    if not all(stripped):
        raise HostlistError(
            f"{text!r}: a name is missing {'before or after a comma' if len(items) > 1 else ''}".rstrip()
        )
    return stripped


def _product(item: str, text: str) -> list[str]:
    names = [""]
    for index, part in enumerate(re.split(r"\[([^\]]*)\]", item)):
        if index % 2 == 0:
            if strange := _STRANGE.search(part):
                raise HostlistError(f"{text!r}: {strange.group()!r} cannot be part of a name")
            names = [name + part for name in names]
            continue
        values = _ranges(part, text)
        if len(names) * len(values) > LIMIT:
            raise HostlistError(f"{text!r} stands for more than {LIMIT:,} names")
        names = [name + value for name in names for value in values]
    return names


def _ranges(part: str, text: str) -> list[str]:
    values: list[str] = []
    for piece in part.split(","):
        match = _RANGE.fullmatch(piece.strip())
        if not match:
            what = (
                f"{piece.strip()!r} is not a number or a range like 0-7"
                if piece.strip()
                else "an empty range"
            )
            raise HostlistError(f"{text!r}: {what} in [{part}]")
        first, last, step = match.groups()
        values.extend(_range(first, last, step, text))
    return values


def _range(first: str, last: str | None, step: str | None, text: str) -> Iterable[str]:
    if last is None:
        return [first]
    width = len(first) if first.startswith("0") else 0
    if last.startswith("0") and len(last) > max(width, 1):
        raise HostlistError(
            f"{text!r}: {first}-{last} pads one end only; write both with the same number of digits"
        )
    low, high, by = int(first), int(last), int(step or 1)
    if high < low:
        raise HostlistError(f"{text!r}: {first}-{last} runs backwards; write {last}-{first}")
    if by == 0:
        raise HostlistError(f"{text!r}: {first}-{last}/{step} has a step of 0")
    if (high - low) // by >= LIMIT:
        raise HostlistError(f"{text!r} stands for more than {LIMIT:,} names")
    return [str(number).zfill(width) for number in range(low, high + 1, by)]


def fold(names: Iterable[str]) -> str:
    """The shortest hostlist this module finds for the names; the same for every order of them.

    `expand(fold(names))` are exactly the given names: 1, 01 and 001 stay three different names.
    """
    families: dict[tuple[str, ...], dict[tuple[frozenset[str], ...], None]] = {}
    for name in dict.fromkeys(names):
        if not name or _STRANGE.search(name):
            raise HostlistError(f"{name!r} is not a name that a hostlist can hold")
        parts = _NUMBER.split(name)
        numbers = tuple(frozenset((digits,)) for digits in parts[1::2])
        families.setdefault(tuple(parts[::2]), {})[numbers] = None
    folded = [
        (_sort_key(texts, box), _write(texts, box))
        for texts, boxes in families.items()
        for box in _boxes(list(boxes))
    ]
    return ",".join(text for _, text in sorted(folded))


Box = tuple[frozenset[str], ...]


def _boxes(boxes: list[Box]) -> list[Box]:
    """Few products that cover the same numbers: along each axis, boxes alike on all others are joined."""
    boxes = sorted(boxes, key=lambda box: [sorted(_number_key(number) for number in axis) for axis in box])
    for axis in reversed(range(len(boxes[0]))):
        joined: dict[Box, set[str]] = {}
        for box in boxes:
            joined.setdefault(box[:axis] + box[axis + 1 :], set()).update(box[axis])
        boxes = [(*others[:axis], frozenset(numbers), *others[axis:]) for others, numbers in joined.items()]
    return boxes


def _write(texts: tuple[str, ...], box: Box) -> str:
    written = texts[0]
    for numbers, text in zip(box, texts[1:], strict=True):
        ranges = _write_ranges(numbers)
        written += (f"[{ranges}]" if len(numbers) > 1 else ranges) + text
    return written


def _write_ranges(numbers: frozenset[str]) -> str:
    """`{'1', '2', '08', '09', '10'}` → `1-2,08-10`: a run goes on while its first number's padding holds."""
    left = dict.fromkeys(sorted(numbers, key=_run_key))
    runs = []
    for first in list(left):
        if first not in left:
            continue
        width = len(first) if _padded(first) else 0
        last = first
        del left[first]
        while (following := str(int(last) + 1).zfill(width)) in left:
            del left[following]
            last = following
        runs.append((first, last))
    runs.sort(key=lambda run: _number_key(run[0]))
    return ",".join(first if first == last else f"{first}-{last}" for first, last in runs)


def _padded(digits: str) -> bool:
    return len(digits) > 1 and digits.startswith("0")


def _run_key(digits: str) -> tuple[bool, int, int]:
    """Padded numbers start runs first: `099` may take `100` along, `100` could not take `099`."""
    return not _padded(digits), len(digits) if _padded(digits) else 0, int(digits)


def _number_key(digits: str) -> tuple[int, int]:
    return int(digits), len(digits)


def _sort_key(texts: tuple[str, ...], box: Box) -> list[tuple[int, str, int, int]]:
    """Natural order: texts as texts, numbers as numbers."""
    key: list[tuple[int, str, int, int]] = [(0, texts[0], 0, 0)]
    for numbers, text in zip(box, texts[1:], strict=True):
        value, width = min(_number_key(number) for number in numbers)
        key += [(1, "", value, width), (0, text, 0, 0)]
    return key
