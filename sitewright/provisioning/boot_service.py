"""Boot configurations in boot-service, the successor of BSS.

A pool has one `/bootconfigurations` for each thing that its nodes boot (one, and two while images are rolled), which
names the nodes as `hosts`. So a pool costs the same few requests whatever its size, and a node that is given another
image moves from one list to the other. Two other ways would not do:

- A match by group. boot-service copies nodes from SMD without their groups, and takes away those that somebody adds.
- The legacy `/bootparameters`. PUT makes nothing and changes the first match only, DELETE wants all nodes in the URL,
  and an answer does not tell groups from hosts.

Nodes are boot-service's own copy of SMD's, renewed every few minutes where it runs with `--hsm-url`; without a copy a
node boots nothing. We wait for the copies and write none: with two who write, a node is there twice.

Source: boot-service 0.3.2, exchanges replayed by tests/contracts/test_provisioner.py; what is not recorded from its
source (apis/boot.openchami.io/v1, cmd/server, pkg/controllers/bootscript, pkg/clients/hsm).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import httpx

from sitewright.errors import SitewrightError
from sitewright.provisioning.boot import Boot
from sitewright.provisioning.boot_service_match import PRIORITY, Configuration, Matching
from sitewright.provisioning.openchami_http import GONE, Held, Http, folded, for_each

SERVICE = "boot_service"
CONFIGURATIONS, NODES = "/bootconfigurations", "/nodes"

ESCAPED = "&+<>\"'"
"""What its scripts, rendered as HTML, hold in another spelling (`&amp;`): iPXE would fetch or pass on just that."""


class BootService:
    """A BootBackend. seed: base URL of the cloud-init server as nodes reach it, which boot-service does not tell them
    by itself; "" where nothing is declared."""

    def __init__(self, http: Http, seed: str) -> None:
        self._http = http
        self._seed = f"ds=nocloud-net;s={seed.rstrip('/')}/" if seed else ""

    def nodes_changed(self, nodes: Sequence[Mapping[str, Any]]) -> list[str]:
        """Raises: Held until boot-service has copied them from SMD."""
        owners: dict[str, str] = {}
        for one in self._nodes():  # the first one with a MAC address is who asks from there
            owners.setdefault(str(one["spec"].get("bootMac", "")).lower(), one["spec"]["xname"])
        unknown = [node["xname"] for node in nodes if owners.get(str(node["mac"]).lower()) != node["xname"]]
        if unknown and not self._http.only_asks:
            raise Held(
                f"{folded(unknown)}: boot-service does not know their MAC addresses yet",
                "It reads SMD every few minutes where it runs with --hsm-url; then run the same again.",
            )
        return [f"copies in boot-service of {folded(unknown)}"] if unknown else []

    def nodes_gone(self, xnames: Sequence[str]) -> None:
        """It keeps its copy for ever, and another node with that MAC address would be taken for this one."""
        uids: dict[str, list[str]] = {}
        for one in self._nodes():
            if one["spec"]["xname"] in xnames:
                uids.setdefault(one["spec"]["xname"], []).append(one["metadata"]["uid"])

        def remove(copies: list[str]) -> None:
            for uid in copies:
                self._http.write(SERVICE, "DELETE", f"{NODES}/{uid}", accept=GONE)

        for_each("copies in boot-service", uids, remove)

    def set_boot(self, label: str, xnames: Sequence[str], boot: Boot) -> list[str]:
        """Raises: SitewrightError before anything is written for a value that a boot script would not hold as it is;
        and where a configuration of somebody else's counts for more."""
        wanted = self._parameters(boot)
        _require_kept(wanted)
        before = self._matching()
        differing = [xname for xname in xnames if before.parameters(xname) != wanted]
        if differing and not self._http.only_asks:
            self._put_into(label, set(differing), wanted, before.configurations)
            self._require_boots(differing, wanted)
        return differing

    def forget_boot(self, xnames: Sequence[str]) -> None:
        self._take_out(set(xnames), self._configurations())

    def boots(self) -> dict[str, Boot]:
        matching = self._matching()
        found = {xname: matching.parameters(xname) for xname in matching.xnames}
        return {xname: self._boot(parameters) for xname, parameters in found.items() if parameters}

    def _parameters(self, boot: Boot) -> dict[str, str]:
        """With the seed of cloud-init, which BSS adds by itself, where the arguments name none."""
        arguments = list(boot.arguments)
        if self._seed and not any(word.startswith("ds=") for word in " ".join(arguments).split()):
            arguments.append(self._seed)
        return Boot(boot.kernel_url, boot.initrd_url, arguments).parameters

    def _boot(self, parameters: Mapping[str, str]) -> Boot:
        boot = Boot.of(parameters)
        arguments = [word for word in boot.arguments if word != self._seed]
        return Boot(boot.kernel_url, boot.initrd_url, arguments)

    def _put_into(
        self, label: str, xnames: set[str], wanted: Mapping[str, str], known: Sequence[Configuration]
    ) -> None:
        """First into the new one, then out of the old: a node that asks in between gets one of the two."""
        ours = next((one for one in known if one.name == label and one.is_only_hosts_for(wanted)), None)
        if ours is None or not xnames <= ours.hosts:
            self._write(label, ours, xnames | (ours.hosts if ours else set()), wanted)
        self._take_out(xnames, [one for one in known if one is not ours])

    def _write(
        self, label: str, known: Configuration | None, hosts: Collection[str], wanted: Mapping[str, str]
    ) -> None:
        spec = {"hosts": sorted(hosts), **wanted, "priority": PRIORITY}
        if known is None or not self._replace(known, spec):
            body = {"metadata": {"name": label}, "spec": spec}
            self._http.write(SERVICE, "POST", CONFIGURATIONS, body)

    def _take_out(self, xnames: set[str], known: Sequence[Configuration]) -> None:
        for one in known:
            if not one.hosts & xnames:
                continue
            if left := one.without_hosts(xnames):
                self._replace(one, left)
            else:  # without a target it would match every node
                self._http.write(SERVICE, "DELETE", f"{CONFIGURATIONS}/{one.uid}", accept=GONE)

    def _replace(self, known: Configuration, spec: Mapping[str, Any]) -> bool:
        """False where it is gone meanwhile."""
        body = {"metadata": {"name": known.name}, "spec": spec}
        answer = self._http.write(SERVICE, "PUT", f"{CONFIGURATIONS}/{known.uid}", body, accept=(404,))
        return answer is None or answer.is_success

    def _require_boots(self, xnames: Sequence[str], wanted: Mapping[str, str]) -> None:
        after = self._matching()
        wrong = [xname for xname in xnames if after.parameters(xname) != wanted]
        if not wrong:
            return
        others = {one.uid: one.name for xname in wrong for one in after.best(xname)}
        said = ", ".join(f"{name!r} ({uid})" for uid, name in sorted(others.items())) or "none"
        raise SitewrightError(
            f"boot-service: {folded(wrong)}: the boot configuration that counts is {said}, not what was written",
            "Look at it (`GET /bootconfigurations`), take these nodes out of it, and run the same again.",
        )

    def _matching(self) -> Matching:
        return Matching(self._configurations(), [one["spec"] for one in self._nodes()])

    def _configurations(self) -> list[Configuration]:
        return [Configuration(one) for one in _listed(self._http.call(SERVICE, "GET", CONFIGURATIONS))]

    def _nodes(self) -> list[dict[str, Any]]:
        return _listed(self._http.call(SERVICE, "GET", NODES))


def _listed(answer: httpx.Response) -> list[dict[str, Any]]:
    """An empty list may come as null."""
    return answer.json() or []


def _require_kept(parameters: Mapping[str, str]) -> None:
    """Raises: SitewrightError for a value that boot-service refuses, or that its scripts hold otherwise."""
    words = [word for value in parameters.values() for word in value.split()]
    if bad := next((word for word in words if set(word) & set(ESCAPED)), None):
        raise SitewrightError(
            f"boot-service: {bad!r} holds one of {' '.join(ESCAPED)}, which it writes into a boot script in another "
            "spelling (html/template); nothing was written",
            "In a URL write it percent-encoded (& is %26, + is %2B). An argument that cannot do without needs a site "
            "with BSS (`provisioner.bss`), which writes it as it is.",
        )
    for name in ("kernel", "initrd"):
        if not parameters[name].startswith(("http://", "https://", "/")):
            raise SitewrightError(
                f"boot-service: {name} {parameters[name]!r} is no http:// or https:// URL; nothing was written",
                "It boots from nothing else; publish the file there.",
            )
