"""Which boot configuration boot-service gives to a node: the one with most points, then the highest priority.

A MAC address counts 100 points, a NID 75, a host 50, each group 25; one without any target has 1 and is for all nodes.
Among equals the service takes any.

Source: boot-service 0.3.2, pkg/controllers/bootscript.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

MAC, NID, HOST, GROUP, ANY = 100, 75, 50, 25, 1
PRIORITY = 100
"""The highest: a configuration of ours comes before a default for the hosts `*`, which has as many points."""


class Configuration:
    """A document of `/bootconfigurations`."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.uid, self.name = str(document["metadata"]["uid"]), str(document["metadata"].get("name", ""))
        self._spec = dict(document["spec"])
        self.hosts = self._of("hosts")
        self._macs = {str(mac).lower() for mac in self._of("macs")}
        self._nids, self._groups = self._of("nids"), self._of("groups")
        self.priority = int(self._spec.get("priority") or 0)
        self.parameters = {key: str(self._spec.get(key) or "") for key in ("kernel", "initrd", "params")}

    def _of(self, target: str) -> frozenset[Any]:
        return frozenset(self._spec.get(target) or ())

    def points(self, node: Mapping[str, Any]) -> int:
        """node: `spec` of a document of `/nodes`. 0: not for this node."""
        if not (self.hosts or self._macs or self._nids or self._groups):
            return ANY
        return (
            MAC * (str(node.get("bootMac", "")).lower() in self._macs)
            + NID * (node.get("nid") in self._nids)
            + HOST * (node["xname"] in self.hosts)
            + HOST * ("*" in self.hosts)
            + GROUP * len(self._groups & set(node.get("groups") or ()))
        )

    def is_only_hosts_for(self, parameters: Mapping[str, str]) -> bool:
        """Whether it has nodes boot this, by their names and as we write it."""
        others = self._macs or self._nids or self._groups
        return not others and self.priority == PRIORITY and self.parameters == parameters

    def without_hosts(self, xnames: Collection[str]) -> dict[str, Any]:
        """Its spec without these hosts; empty where no target is left."""
        hosts = sorted(self.hosts.difference(xnames))
        if not (hosts or self._macs or self._nids or self._groups):
            return {}
        left = {key: value for key, value in self._spec.items() if key != "hosts"}
        return {**left, "hosts": hosts} if hosts else left


class Matching:
    """All configurations, and what boot-service knows of nodes (`spec` of their documents)."""

    def __init__(self, configurations: Sequence[Configuration], nodes: Sequence[Mapping[str, Any]]) -> None:
        self.configurations = list(configurations)
        self._nodes: dict[str, Mapping[str, Any]] = {}
        for node in nodes:
            self._nodes.setdefault(node["xname"], node)

    @property
    def xnames(self) -> set[str]:
        """The nodes that it knows, and those that a configuration names."""
        named = {host for one in self.configurations for host in one.hosts}
        return {*self._nodes, *named} - {"*", "default"}

    def best(self, xname: str) -> list[Configuration]:
        """The configuration that a node gets; several where nothing decides between them, none for none."""
        node = self._nodes.get(xname, {"xname": xname})
        ranks = [(one.points(node), one.priority) for one in self.configurations]
        top = max(ranks, default=(0, 0))
        return [one for one, rank in zip(self.configurations, ranks, strict=True) if rank == top and top[0]]

    def parameters(self, xname: str) -> dict[str, str] | None:
        """What a node boots; None for nothing, and where configurations that say different things are equals."""
        found = [one.parameters for one in self.best(xname)]
        return found[0] if found and all(one == found[0] for one in found) else None
