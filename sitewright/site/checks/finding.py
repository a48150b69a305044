"""What a check sees and what it finds."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sitewright.site.plan import names as expanded
from sitewright.site.problems import Loc, did_you_mean


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
    dropped: sections of which something was taken out as faulty; names: list → the names it defines, or None
    where that cannot be told.
    """

    stem: str
    sections: frozenset[str]
    dropped: frozenset[str]
    names: Mapping[str, frozenset[str] | None]

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
        names = {key: _names(items) for key, items in lists.items()}
        names["vms"] = _vm_names(data.get("virtual_machines"))
        if hypervisor is None:
            names["images"] = None
        present = frozenset(key for key, value in data.items() if value not in (None, [], {}))
        return cls(stem, present, dropped, names)

    def __getitem__(self, key: str) -> frozenset[str] | None:
        return self.names[key]

    @property
    def complete(self) -> bool:
        """Whether the model has every network, VM and pool of the file: its address plan is the real one."""
        return not self.dropped & {"networks", "virtual_machines", "pools"}


def _names(items: Any) -> frozenset[str] | None:
    """The names that the items of a list define; None where one has no name, so that nobody knows."""
    if items is None:
        return frozenset()
    if not isinstance(items, list):
        return None
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    return frozenset(map(str, names)) if all(isinstance(name, str) for name in names) else None


def _vm_names(items: Any) -> frozenset[str] | None:
    """The names that the hostlists of the groups stand for."""
    groups = _names(items)
    if groups is None or not all(expanded(group) for group in groups):
        return None
    return frozenset(name for group in groups for name in expanded(group))


def defined(there: Collection[str] | None, what: str, name: str, loc: Loc) -> Iterator[Finding]:
    """A finding where a name stands for nothing. there: all names; None where nobody knows them."""
    if there is not None and name not in there:
        yield Finding(loc, f"no {what} named {name!r}{did_you_mean(name, there)}")
