"""Nodes go to another owner: a pool of this or another cluster, or the batch system.

An owner is a group of SMD with the exclusiveGroup of all pools, so that a node never has two. A move keeps nothing: how
far it is shows in the cluster, at the BMC and in SMD, and the same move again goes on from there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kubernetes import client

from sitewright.errors import SitewrightError
from sitewright.kubernetes_api import Missing, call
from sitewright.lifecycle import cluster_node
from sitewright.lifecycle.drain import Drain, require_owners
from sitewright.provisioning.openchami_access import provisioner
from sitewright.provisioning.power import power_nodes
from sitewright.site import Node, Site
from sitewright.site.hostlist import fold


@dataclass(frozen=True)
class Move:
    """One node. owner: its group now, "" for none; joined: whether the cluster that KUBECONFIG names has it."""

    node: Node
    owner: str
    joined: bool


def moves(site: Site, nodes: Sequence[Node], target: str) -> list[Move]:
    """What is to do, for the nodes that the target does not have yet.

    Raises: SitewrightError where the site file has a node in another pool than a target that is a pool, or where the
            target cannot own nodes.
    """
    elsewhere = [node.xname for node in nodes if node.pool != target]
    if elsewhere and target in {pool.name for pool in site.pools}:
        raise SitewrightError(
            f"{fold(elsewhere)}: not in pool {target} of the site file; nothing was changed",
            f"Put them into its `nodes` first: `pulumi up` would take back what the file does not say of {target}.",
        )
    services = provisioner(site)
    services.require_owner(target)
    owners = services.owners()
    return [
        Move(node, owners.get(node.xname, ""), cluster_node.find(node.xname) is not None)
        for node in nodes
        if owners.get(node.xname) != target
    ]


def reassign(
    site: Site,
    wanted: Sequence[Move],
    target: str,
    drain_timeout: float,
    force: bool,
    tell: Callable[[str], None],
) -> None:
    """Drained, out of the cluster, off, booting nothing, the target's: each node in this order, all of them together.

    drain_timeout: seconds; force: also pods that nobody makes again.
    Raises: SitewrightError at the first step that fails; what is done stays, and the same again goes on.
    """
    services = provisioner(site, check=False)
    _drain([move.node.xname for move in wanted if move.joined], drain_timeout, force, tell)
    for outcome in power_nodes(site, [move.node for move in wanted], "off"):
        if outcome.error or outcome.after != "Off":
            raise SitewrightError(
                f"{outcome.name}: {outcome.error or f'is {outcome.after} after off'}",
                "It keeps its owner. Run the same again when its BMC answers.",
            )
        tell(f"{outcome.name}: off")
    for move in wanted:
        xname = move.node.xname
        if move.joined:
            _leave_cluster(xname)
            tell(f"{xname}: out of the cluster")
        services.forget_boot(move.owner, [xname])
        services.hand_over(xname, target)
        tell(f"{xname}: {move.owner or 'nobody'} -> {target}")


def _drain(names: Sequence[str], timeout: float, force: bool, tell: Callable[[str], None]) -> None:
    if not names:
        return
    if not force:
        require_owners(names)
    left = Drain(names, timeout, tell).run()
    if lines := [f"{name}: {one.pod} is left: {one.reason}" for name in names for one in left[name]]:
        raise SitewrightError(
            "\n".join(lines), "They stay cordoned and keep their owner. Run the same again."
        )


def _leave_cluster(xname: str) -> None:
    """Its pods of DaemonSets go with the Node: no kubelet would end them."""
    api = client.CoreV1Api()
    try:
        call(api.delete_node, xname)
    except Missing:
        return
    for pod in call(api.list_pod_for_all_namespaces, field_selector=f"spec.nodeName={xname}").items:
        try:
            call(api.delete_namespaced_pod, pod.metadata.name, pod.metadata.namespace, grace_period_seconds=0)
        except Missing:
            continue
