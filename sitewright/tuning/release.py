"""Which version of an adapter answers under an alias: on trial beside another, for all, or no longer.

The site file says it, so that `pulumi up` brings it about and a later one keeps it. The first target of an alias is
the one in use, a second one is on trial.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sitewright.errors import SitewrightError
from sitewright.site import Site, edit
from sitewright.site.files import display
from sitewright.site.service_sections import AliasTarget
from sitewright.tuning.adapters import CONFIG
from sitewright.tuning.template import ADAPTERS

ALIASES = ("services", "gateway", "aliases")


@dataclass(frozen=True)
class Release:
    """A change that is not made yet. before, after: the text of the site file; said: shares, for the user."""

    path: Path
    before: str
    after: str
    said: str

    def make(self) -> None:
        edit.write(self.path, self.after)


def canary(site: Site, alias: str, name: str, percent: int) -> Release:
    """`name`, an adapter or a model, gets that share of the requests for `alias`.

    Raises: SitewrightError when there is no such alias or version, or when another version is on trial.
    """
    targets = _targets(site, alias)
    if not targets:
        raise SitewrightError(
            f"no alias {alias!r}; there is {_listed([one.name for one in _aliases(site)])}",
            f"sitewright adapters promote {site.name} {alias} <adapter> makes it.",
        )
    new = target(site, name)
    in_use, *trials = targets
    if _same(in_use, new):
        raise SitewrightError(f"{name} is what answers under {alias} already")
    if len(trials) > 1 or (trials and not _same(trials[0], new)):
        there = _listed([_name(one) for one in trials])
        raise SitewrightError(f"{alias}: {there} is on trial", "Promote it or roll it back first.")
    return _release(site, alias, [_weighted(in_use, 100 - percent), _weighted(new, percent)])


def promote(site: Site, alias: str, name: str | None) -> Release:
    """`name`, or what is on trial, gets all requests for `alias`, which is made where it is not there."""
    if name is not None:
        return _release(site, alias, [_weighted(target(site, name), 1)])
    return _release(site, alias, [_weighted(_on_trial(site, alias), 1)])


def rollback(site: Site, alias: str, name: str | None) -> Release:
    """What is on trial gets no more requests; or `name`, an earlier version, gets them all."""
    if name is not None:
        return promote(site, alias, name)
    _on_trial(site, alias)
    return _release(site, alias, [_weighted(_targets(site, alias)[0], 1)])


def target(site: Site, name: str) -> AliasTarget:
    """A served model, or a published adapter of one. Raises: SitewrightError when it is neither."""
    served = [model.name for model in site.services.models]
    if name in served:
        return AliasTarget(model=name)
    published = {path.parent.name: path.parent.parent.name for path in _published(site)}
    if published.get(name) in served:
        return AliasTarget(model=published[name], adapter=name)
    raise SitewrightError(
        f"{name!r} is no published adapter and no model; there is {_listed([*sorted(published), *served])}",
        "sitewright adapters publish makes one of a run.",
    )


def _published(site: Site) -> list[Path]:
    return [*(Path(site.shared_filesystem.publish_dir) / ADAPTERS).glob(f"*/*/{CONFIG}")]


def _on_trial(site: Site, alias: str) -> AliasTarget:
    targets = _targets(site, alias)
    if len(targets) != 2:
        raise SitewrightError(
            f"{alias}: nothing is on trial" if targets else f"no alias {alias!r}",
            f"Say which version is to answer; there is {_listed([path.parent.name for path in _published(site)])}.",
        )
    return targets[1]


def _aliases(site: Site) -> Sequence[Any]:
    if site.services.gateway is None:
        raise SitewrightError(f"{site.name}: services.gateway is not there", "Aliases are the gateway's.")
    return site.services.gateway.aliases


def _targets(site: Site, alias: str) -> list[AliasTarget]:
    return [one for found in _aliases(site) if found.name == alias for one in found.targets]


def _release(site: Site, alias: str, targets: list[AliasTarget]) -> Release:
    path = site.file
    assert path is not None, "only a site that was read has aliases to change"
    text = path.read_text(encoding="utf-8")
    written = [one.model_dump(exclude_none=True) for one in targets]
    places = [place for place, one in enumerate(_aliases(site)) if one.name == alias]
    if places:
        changed = edit.with_value(text, (*ALIASES, places[0], "targets"), written)
    else:
        if _aliases(site) and not edit.has(text, ALIASES):
            raise SitewrightError(
                f"{'.'.join(ALIASES)} is in a file that {display(path)} extends",
                "A list of its own would take the place of that one: write the alias there by hand.",
            )
        changed = edit.with_item(text, ALIASES, {"name": alias, "targets": written})
    total = sum(one.weight for one in targets)
    shares = [f"{100 * one.weight / total:.0f} % {_name(one)}" for one in targets]
    return Release(path, text, changed, f"{alias}: {', '.join(shares)}")


def _weighted(found: AliasTarget, weight: int) -> AliasTarget:
    return found.model_copy(update={"weight": weight})


def _same(one: AliasTarget, other: AliasTarget) -> bool:
    return (one.model, one.adapter) == (other.model, other.adapter)


def _name(found: AliasTarget) -> str:
    return found.adapter or found.model


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
