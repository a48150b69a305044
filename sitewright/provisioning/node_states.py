"""What is true of nodes now, beside what the site file wants: power, provisioner, cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import kubernetes

from sitewright.errors import SitewrightError
from sitewright.kubernetes_api import call, load_kubeconfig
from sitewright.provisioning.openchami import Known
from sitewright.provisioning.openchami_access import provisioner
from sitewright.provisioning.power import power_nodes
from sitewright.site import Node, Site
from sitewright.site.hostlist import expand
from sitewright.site.messages import did_you_mean

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Joined:
    """A node as its cluster sees it. state: as kubectl writes it, `Ready,SchedulingDisabled`."""

    state: str
    kubelet: str
    kernel: str
    image: str
    labels: dict[str, str]
    taints: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """known, joined: None where provisioner or cluster have no such node. problems: what could not be asked."""

    node: Node
    power: str
    known: Known | None
    joined: Joined | None
    problems: tuple[str, ...] = ()

    @property
    def differs(self) -> str:
        """What is not as the site file says; empty if all is."""
        if self.known is None or not self.known.kernel:
            return "not declared"
        if self.known.pool != self.node.pool:
            return f"in pool {self.known.pool or 'none'}"
        if self.joined is None:
            return "not in the cluster"
        return "" if self.joined.state == "Ready" else self.joined.state


def chosen(site: Site, hostlist: str | None, pool: str | None = None) -> list[Node]:
    """Nodes of the site. hostlist: of xnames; None for all. Raises: SitewrightError for one that the site has not."""
    there = {node.xname: node for node in (site.pool_nodes(pool) if pool else site.nodes)}
    if hostlist is None:
        return list(there.values())
    wanted = expand(hostlist)
    if strange := [xname for xname in wanted if xname not in there]:
        where = f"pool {pool}" if pool else f"site {site.name}"
        raise SitewrightError(f"no node {strange[0]!r} in {where}{did_you_mean(strange[0], there)}")
    return [there[xname] for xname in wanted]


def states(site: Site, nodes: Sequence[Node], limit: int = 16) -> list[State]:
    """All three, for each node. limit: BMCs asked at a time. What does not answer is a problem of its nodes."""
    powers = power_nodes(site, nodes, "status", limit)
    known, silent = _asked(lambda: provisioner(site).known())
    joined, away = _asked(cluster_nodes)
    common = [problem for problem in (silent, away) if problem]
    return [
        State(
            node,
            UNKNOWN if found.error else found.after,
            (known or {}).get(node.xname),
            (joined or {}).get(node.xname),
            (*([str(found.error)] if found.error else []), *common),
        )
        for node, found in zip(nodes, powers, strict=True)
    ]


def cluster_nodes() -> dict[str, Joined]:
    """The nodes of the cluster that KUBECONFIG names. Raises: SitewrightError where it names none or none answers."""
    load_kubeconfig()
    return {node.metadata.name: _joined(node) for node in call(kubernetes.client.CoreV1Api().list_node).items}


def _joined(node: Any) -> Joined:
    ready = {one.type: one.status for one in node.status.conditions or []}.get("Ready")
    state = {"True": "Ready", "False": "NotReady"}.get(ready or "", "Unknown")
    info = node.status.node_info
    return Joined(
        f"{state},SchedulingDisabled" if node.spec.unschedulable else state,
        info.kubelet_version if info else "",
        info.kernel_version if info else "",
        info.os_image if info else "",
        dict(node.metadata.labels or {}),
        tuple(f"{one.key}={one.value or ''}:{one.effect}" for one in node.spec.taints or []),
    )


def _asked(question: Any) -> tuple[Any, str]:
    try:
        return question(), ""
    except SitewrightError as error:
        return None, error.message
