"""xnames: where a component sits in an HPE Cray EX or a standard rack.

Source: hms-xname 1.4.0 for the shapes and the normalisation; the HPE Cray EX documentation for the
ranges, which are narrower than the patterns of hms-xname (a blade slot is 0-7, yet `s99` would match).
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache

from sitewright.errors import SitewrightError


class XnameError(SitewrightError):
    """A text that is no xname, or an xname of the wrong kind."""


class XnameType(StrEnum):
    CABINET = "Cabinet"
    CHASSIS = "Chassis"
    CHASSIS_BMC = "ChassisBMC"
    BLADE = "ComputeModule"
    NODE_BMC = "NodeBMC"
    NODE = "Node"
    NODE_NIC = "NodeNic"
    NODE_HSN_NIC = "NodeHsnNic"
    ACCELERATOR = "NodeAccel"
    PROCESSOR = "Processor"
    ROUTER_MODULE = "RouterModule"
    ROUTER_BMC = "RouterBMC"
    CEC = "CEC"
    PDU_CONTROLLER = "CabinetPDUController"


_TYPES = {
    "x": XnameType.CABINET,
    "xc": XnameType.CHASSIS,
    "xcb": XnameType.CHASSIS_BMC,
    "xcs": XnameType.BLADE,
    "xcsb": XnameType.NODE_BMC,
    "xcsbn": XnameType.NODE,
    "xcsbni": XnameType.NODE_NIC,
    "xcsbnh": XnameType.NODE_HSN_NIC,
    "xcsbna": XnameType.ACCELERATOR,
    "xcsbnp": XnameType.PROCESSOR,
    "xcr": XnameType.ROUTER_MODULE,
    "xcrb": XnameType.ROUTER_BMC,
    "xe": XnameType.CEC,
    "xm": XnameType.PDU_CONTROLLER,
}
_EXAMPLES = {kind: letters for letters, kind in _TYPES.items()}

# What each letter counts, and its first and last number in a liquid-cooled EX cabinet.
_RANGES = {
    "x": ("cabinet", 0, 9999),
    "c": ("chassis", 0, 7),
    "s": ("slot", 0, 7),
    "b": ("BMC", 0, 1),
    "n": ("node", 0, 7),
    "i": ("NIC", 0, 3),
    "h": ("HSN NIC", 0, 3),
    "a": ("accelerator", 0, 7),
    "p": ("processor", 0, 3),
    "r": ("router slot", 0, 7),
    "e": ("CEC", 0, 1),
    "m": ("PDU controller", 0, 3),
}
# A standard rack (x3000-x4999) has one chassis, c0, whose slots are rack units with BMCs b0 or b1-b4.
_RACK_RANGES = {
    "c": ("chassis", 0, 0),
    "s": ("rack unit", 1, 64),
    "b": ("BMC", 0, 4),
    "r": ("rack unit", 1, 64),
}
_RACK_CABINETS = range(3000, 5000)

_PART = re.compile(r"([a-z])([0-9]+)")
_SHAPE = re.compile(r"(?:[a-z][0-9]+)+")


@dataclass(frozen=True)
class Xname:
    """One location. Sorts by place: cabinet, then chassis, slot, BMC, node, as numbers."""

    type: XnameType
    parts: tuple[tuple[str, int], ...]

    @classmethod
    def parse(cls, text: str, expect: XnameType | None = None) -> "Xname":
        """The xname a text means, without the blanks, upper case and leading zeros hms-xname takes away.

        expect: the kind of component that is wanted.
        Raises: XnameError, naming the part that is wrong.
        """
        found = _parse(text)
        if expect is not None and found.type is not expect:
            shape = "".join(f"{letter}…" for letter in _EXAMPLES[expect])
            advice = f"; its {expect} is {found.ancestor(expect)}" if expect in found._ancestor_types else ""
            raise XnameError(f"{text!r} is a {found.type}, a {expect} ({shape}) is wanted{advice}")
        return found

    def __str__(self) -> str:
        return self._text

    def __lt__(self, other: "Xname") -> bool:
        return self.parts < other.parts

    @cached_property
    def _text(self) -> str:
        return "".join(f"{letter}{number}" for letter, number in self.parts)

    @property
    def cabinet(self) -> int:
        return self.parts[0][1]

    @property
    def parent(self) -> "Xname | None":
        """What it is built into: node → BMC → blade → chassis → cabinet → None."""
        parts = self.parts[:-1]
        return Xname(_TYPES["".join(letter for letter, _ in parts)], parts) if parts else None

    @property
    def bmc(self) -> "Xname":
        """The NodeBMC that switches a node, or what is in a node."""
        return self.ancestor(XnameType.NODE_BMC)

    @property
    def blade(self) -> "Xname":
        return self.ancestor(XnameType.BLADE)

    @property
    def chassis(self) -> "Xname":
        return self.ancestor(XnameType.CHASSIS)

    @property
    def chassis_bmc(self) -> "Xname":
        """The controller of its chassis, `x1000c0b0`."""
        return Xname(XnameType.CHASSIS_BMC, (*self.chassis.parts, ("b", 0)))

    def ancestor(self, kind: XnameType) -> "Xname":
        """Itself or the component around it that is of this kind. Raises XnameError where there is none."""
        place: Xname | None = self
        while place is not None:
            if place.type is kind:
                return place
            place = place.parent
        raise XnameError(f"{self} is a {self.type} and lies in no {kind}")

    @property
    def _ancestor_types(self) -> set[XnameType]:
        letters = "".join(letter for letter, _ in self.parts)
        return {_TYPES[letters[:end]] for end in range(1, len(letters))}


@lru_cache(maxsize=65536)
def _parse(text: str) -> Xname:
    cleaned = text.strip().lower()
    if not cleaned:
        raise XnameError("an empty text is no xname; a node's is like x1000c0s0b0n0")
    if not _SHAPE.fullmatch(cleaned):
        raise XnameError(f"{text!r} is no xname: {_strange_part(cleaned)}")
    parts = tuple((letter, int(digits)) for letter, digits in _PART.findall(cleaned))
    kind = _TYPES.get("".join(letter for letter, _ in parts))
    if kind is None:
        raise XnameError(f"{text!r} is no xname: {_wrong_order(parts)}")
    _check_ranges(text, kind, parts)
    return Xname(kind, parts)


def _strange_part(text: str) -> str:
    if not text.startswith("x"):
        return "it starts with x and the number of a cabinet, like x1000c0s0b0n0"
    rest = _PART.sub("", text)
    strange = next((character for character in rest if not character.isalnum()), None)
    if strange is not None:
        return f"{strange!r} is neither a letter nor a digit"
    return f"every letter is followed by a number, {rest[0]!r} is not" if rest else "a letter is missing"


def _wrong_order(parts: tuple[tuple[str, int], ...]) -> str:
    letters = "".join(letter for letter, _ in parts)
    if letters[0] != "x":
        return "it starts with x and the number of a cabinet, like x1000c0s0b0n0"
    for candidate in ("xcsbn", "xcsbna", "xcsb", "xcrb"):
        for index, letter in enumerate(candidate):
            if letters == candidate[:index] + candidate[index + 1 :]:
                what = _RANGES[letter][0]
                return f"the {what} ({letter} and a number) is missing after {_text(parts[:index])}"
    for end in range(1, len(letters) + 1):
        if letters[:end] not in _TYPES:
            return f"{_text(parts[end - 1 : end])} cannot follow {_text(parts[: end - 1])}"
    return "unknown order of letters"


def _check_ranges(text: str, kind: XnameType, parts: tuple[tuple[str, int], ...]) -> None:
    in_rack = parts[0][1] in _RACK_CABINETS
    for letter, number in parts:
        what, low, high = _RACK_RANGES.get(letter, _RANGES[letter]) if in_rack else _RANGES[letter]
        if letter == "b" and kind is XnameType.CHASSIS_BMC:
            high = 0
        if not low <= number <= high:
            where = "a standard rack" if in_rack else "an EX cabinet"
            raise XnameError(
                f"{text!r} is no xname: {what} {letter}{number}, {where} has {letter}{low} to {letter}{high}"
            )


def _text(parts: tuple[tuple[str, int], ...]) -> str:
    return "".join(f"{letter}{number}" for letter, number in parts)
