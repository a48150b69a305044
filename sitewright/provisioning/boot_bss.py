"""Boot parameters in BSS, which has them by node.

Source: exchanges recorded from BSS 1.32, replayed by tests/contracts/test_provisioner.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sitewright.provisioning.boot import Boot
from sitewright.provisioning.openchami_http import Http

PARAMETERS = "/boot/v1/bootparameters"


class Bss:
    """A BootBackend."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def nodes_changed(self, nodes: Sequence[Mapping[str, Any]]) -> list[str]:
        """It answers from a cache of SMD until it is told to look again, and knows all nodes then."""
        self._http.write("bss", "POST", "/boot/v1/hosts", {})
        return []

    def nodes_gone(self, xnames: Sequence[str]) -> None:
        """It keeps no nodes of its own."""

    def set_boot(self, label: str, xnames: Sequence[str], boot: Boot) -> list[str]:
        wanted, current = boot.parameters, self._entries()
        differing = [
            xname for xname in xnames if {key: current.get(xname, {}).get(key) for key in wanted} != wanted
        ]
        if differing:
            self._http.write("bss", "PUT", PARAMETERS, {"hosts": differing, **wanted})
            self.nodes_changed([])
        return differing

    def forget_boot(self, xnames: Sequence[str]) -> None:
        self._http.write("bss", "DELETE", PARAMETERS, {"hosts": list(xnames)}, accept=(200, 400, 404))

    def boots(self) -> dict[str, Boot]:
        return {xname: Boot.of(entry) for xname, entry in self._entries().items() if entry.get("kernel")}

    def _entries(self) -> dict[str, dict[str, Any]]:
        """By host. It answers 404 where it has nothing at all."""
        known = self._http.call("bss", "GET", PARAMETERS, accept=(200, 404))
        entries = (known.json() or []) if known.status_code == 200 else []
        return {host: entry for entry in entries for host in entry.get("hosts") or []}
