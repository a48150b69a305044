"""What nodes boot, and what a service that gives them their boot scripts has to do for us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Boot:
    """What a pool boots; `arguments` reach the kernel command line character for character."""

    kernel_url: str
    initrd_url: str
    arguments: Sequence[str]

    @property
    def parameters(self) -> dict[str, str]:
        """In the words that BSS and boot-service share."""
        return {"kernel": self.kernel_url, "initrd": self.initrd_url, "params": " ".join(self.arguments)}

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Boot:
        """parameters: as a service has them; what it left out is empty."""
        kernel, initrd, params = (str(parameters.get(key) or "") for key in ("kernel", "initrd", "params"))
        return cls(kernel, initrd, params.split())


class BootBackend(Protocol):
    """One session with the service. Nodes are dicts of site.Node; each method makes as many requests for three nodes
    as for three hundred, but for `nodes_gone`.

    Raises: SitewrightError naming the service, the request and its answer.
    """

    def nodes_changed(self, nodes: Sequence[Mapping[str, Any]]) -> list[str]:
        """SMD knows these nodes, or knows them otherwise than before: have the service know them so too.

        Returns: what it does not know yet, a text each. Raises: Held where only time helps.
        """

    def nodes_gone(self, xnames: Sequence[str]) -> None:
        """SMD no longer knows these nodes."""

    def set_boot(self, label: str, xnames: Sequence[str], boot: Boot) -> list[str]:
        """Have nodes of a group boot this from now on. Returns: those that did not yet."""

    def forget_boot(self, xnames: Sequence[str]) -> None:
        """Have nodes boot nothing any more. What is already gone stays gone."""

    def boots(self) -> dict[str, Boot]:
        """What nodes boot, by xname; those that boot nothing are left out."""
