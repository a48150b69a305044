"""xnames and MAC addresses as SMD and BSS check and normalise them.

Source: Cray-HPE hms-xname (lower case, leading zeros dropped) and the recorded exchanges.
"""

import re

_TYPES = {
    "Node": r"x\d{1,4}c[0-7]s\d+b\d+n\d+",
    "NodeBMC": r"x\d{1,4}c[0-7]s\d+b\d+",
    "ComputeModule": r"x\d{1,4}c[0-7]s\d+",
    "ChassisBMC": r"x\d{1,4}c[0-7]b0",
    "Chassis": r"x\d{1,4}c[0-7]",
    "RouterBMC": r"x\d{1,4}c[0-7]r\d+b\d+",
    "CabinetPDUController": r"x\d{1,4}m[0-3]",
    "Cabinet": r"x\d{1,4}",
}


def normal_xname(text: str) -> str:
    """`text` in the spelling SMD stores; says nothing about whether it is an xname."""
    return re.sub(r"([a-z])0+(\d)", r"\1\2", text.strip().lower())


def xname_type(text: str) -> str:
    """The HMS type of a normalised xname, "" if it is none."""
    return next((kind for kind, pattern in _TYPES.items() if re.fullmatch(pattern, text)), "")


def is_mac(text: str) -> bool:
    return bool(re.fullmatch(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", text))


def bare_mac(text: str) -> str:
    """`52:54:00:BE:EF:01` as `525400beef01`: the ID of an EthernetInterface."""
    return re.sub(r"[^0-9a-f]", "", text.lower())


def colon_mac(text: str) -> str:
    bare = bare_mac(text)
    return ":".join(bare[i : i + 2] for i in range(0, len(bare), 2))
