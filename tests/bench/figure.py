"""One measured figure: a JSON line with its target, so that a reader needs no other file to judge it."""

import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """target: what the value must not exceed, where one was set; peer: the same work done by another program
    in the same run; details: whatever explains the value."""

    name: str
    value: float
    unit: str
    target: float | None = None
    peer: dict[str, Any] | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """`load` is the machine's load average of the last minute: far above what the measurement itself
        takes, it says that other work ran."""
        plain: dict[str, Any] = {"name": self.name, "value": round(self.value, 4), "unit": self.unit}
        if self.target is not None:
            plain |= {"target": self.target, "met": self.value <= self.target}
        if self.peer:
            plain["peer"] = self.peer
        return json.dumps(plain | self.details | {"load": round(os.getloadavg()[0], 1)})


def progress(text: str) -> None:
    """Standard output is for figures alone."""
    print(text, file=sys.stderr, flush=True)
