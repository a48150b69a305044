"""What a check sees and what it finds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sitewright.site.plan import names as expanded
from sitewright.site.problems import Loc


@dataclass(frozen=True)
class Finding:
    """One fault, or, with warning, something legal that looks like a slip."""

    loc: Loc
    message: str
    warning: bool = False


@dataclass(frozen=True)
class Known:
    """What the file says before validation: a cluster with a fault in it is still a cluster that is there.

    stem: name of the file without its ending; sections: the top-level keys that hold something;
    dropped: sections of which something was taken out as faulty; names: list → the names it defines.
    """

    stem: str
    sections: frozenset[str]
    dropped: frozenset[str]
    names: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, data: Mapping[str, Any], stem: str, dropped: frozenset[str]) -> "Known":
        hypervisor = data.get("hypervisor")
        lists = {
            "networks": data.get("networks"),
            "images": hypervisor.get("images") if isinstance(hypervisor, dict) else None,
            "clusters": data.get("clusters"),
            "boot_images": data.get("boot_images"),
            "pools": data.get("pools"),
        }
        names = {key: frozenset(_names(items)) for key, items in lists.items()}
        groups = _names(data.get("virtual_machines"))
        names["vms"] = frozenset(name for group in groups for name in expanded(group))
        present = frozenset(key for key, value in data.items() if value not in (None, [], {}))
        return cls(stem, present, dropped, names)

    def __getitem__(self, key: str) -> frozenset[str]:
        return self.names[key]

    @property
    def complete(self) -> bool:
        """Whether every network, VM and pool of the file is in the model, so that the address plan is the real one."""
        return not self.dropped & {"networks", "virtual_machines", "pools"}


def _names(items: Any) -> Iterable[str]:
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            yield item["name"]
