"""What of a site file can be validated, when some of it is faulty.

Faulty values are reported and taken out until the rest is a site, so that the checks that look at several
values at once also run on a file with a typing error in it: an operator hears of everything in one run.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from sitewright.site.messages import explain
from sitewright.site.model import Site
from sitewright.site.problems import Loc
from sitewright.site.source import Tree

# Stand in for a section that every site must have and that is faulty; the fault itself is reported already.
_PLACEHOLDERS: dict[str, Any] = {
    "name": "unnamed",
    "networks": [{"name": "unnamed", "cidr": "192.0.2.0/24"}],
    "registry": {"endpoint": "http://registry.invalid"},
}
# A default that is computed from a value with a fault of its own.
_FOLLOW_UP = "default_factory_not_called"


@dataclass
class Draft:
    """A site file as far as it is valid.

    data:    what the file says, less what was taken out; site is its model.
    faults:  where and what was found.
    dropped: the sections of which list items were taken out.
    """

    data: Any
    site: Site | None = None
    faults: list[tuple[Loc, str]] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    _kept: dict[int, list[int]] = field(default_factory=dict)

    def original_loc(self, loc: Loc) -> Loc:
        """A loc of `data` as a loc of the file: items taken out of a list shift those behind them."""
        data, original = self.data, list[str | int]()
        for part in loc:
            kept = self._kept.get(id(data))
            original.append(kept[part] if kept is not None and isinstance(part, int) else part)
            data = data[part] if _holds(data, part) else None
        return tuple(original)

    def take_out(self, locs: Iterable[Loc]) -> None:
        """Removes what is at locs; of what is missing, the thing around it; the root gets a placeholder."""
        targets = {self._written(loc) for loc in locs}
        # Backwards, so that the indices of items that are still to go stay true.
        for target in sorted(targets, key=_order, reverse=True):
            if len(target) == 1 and target[0] not in self.data:
                section = str(target[0])
                self.data[section] = copy.deepcopy(_PLACEHOLDERS[section])
                self.dropped.add(str(target[0]))
            elif not any(target[:end] in targets for end in range(1, len(target))):
                self._remove(target)

    def _written(self, loc: Loc) -> Loc:
        """The loc, or the nearest thing around it that is there; a missing top-level key stays itself."""
        data = self.data
        for end, part in enumerate(loc):
            if not _holds(data, part):
                return loc[: max(end, 1)]
            data = data[part]
        return loc

    def _remove(self, loc: Loc) -> None:
        *parents, last = loc
        container = self.data
        for part in parents:
            container = container[part]
        if isinstance(container, list) and isinstance(last, int):
            del self._kept.setdefault(id(container), list(range(len(container))))[last]
            self.dropped.add(str(loc[0]))
        del container[last]


def _order(loc: Loc) -> list[tuple[int, str]]:
    return [(part, "") if isinstance(part, int) else (-1, part) for part in loc]


def _holds(data: Any, part: str | int) -> bool:
    if isinstance(data, dict):
        return part in data
    return isinstance(data, list) and isinstance(part, int) and part < len(data)


def draft(tree: Tree) -> Draft:
    """The model of a tree, with the faults found on the way; `site` is None where nothing is left."""
    result = Draft(data=tree.plain())
    while True:
        try:
            result.site = Site.model_validate(result.data)
            return result
        except ValidationError as error:
            faults = [fault for fault in error.errors(include_url=False) if fault["type"] != _FOLLOW_UP]
        if not result.faults:
            result.faults = [(_loc(fault["loc"]), explain(fault)) for fault in faults]
        result.take_out(_loc(fault["loc"]) for fault in faults)


def _loc(loc: tuple[int | str, ...]) -> Loc:
    """pydantic's loc without its marker for keys of mappings."""
    return tuple(part for part in loc if part != "[key]")
