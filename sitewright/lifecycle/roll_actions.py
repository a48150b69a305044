"""The real site under a roll: its cluster, its BMCs, its provisioner and its playbooks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sitewright.lifecycle import cluster_node, images
from sitewright.lifecycle.cluster_node import ClusterNode
from sitewright.lifecycle.drain import Drain, require_owners
from sitewright.lifecycle.join import join
from sitewright.lifecycle.playbooks import Errors, run_on
from sitewright.provisioning.openchami_access import provisioner
from sitewright.provisioning.power import power_nodes
from sitewright.provisioning.redfish import ACTIONS
from sitewright.site import Pool, Site

HEALTH = "playbooks/check-nodes.yml"
HEALTH_SECONDS = 600.0


@dataclass(frozen=True)
class RollActions:
    """target: digest that is declared where it is not yet; drain_timeout, boot_timeout: seconds; force: also pods that
    nobody makes again; health: playbook that a node must pass."""

    site: Site
    pool: Pool
    environment: str
    target: str
    tell: Callable[[str], None]
    drain_timeout: float
    boot_timeout: float
    force: bool
    health: str

    def find(self, name: str) -> ClusterNode | None:
        return cluster_node.find(name)

    def declare(self, nodes: Sequence[str]) -> None:
        known = provisioner(self.site).known()
        others = [name for name in nodes if images.boots_next(known.get(name)) != self.target]
        if others:
            image = images.published(self.site, self.target)
            boot = images.boot_of(self.site, self.pool, image)
            provisioner(self.site, check=False).set_boot(self.pool.name, others, boot)

    def drain(self, nodes: Sequence[str]) -> Errors:
        if not self.force:
            require_owners(nodes)
        left = Drain(nodes, self.drain_timeout, self.tell).run()
        return {
            name: "; ".join(f"{one.pod} is left: {one.reason}" for one in pods)
            for name, pods in left.items()
            if pods
        }

    def power(self, nodes: Sequence[str], action: str) -> Errors:
        by_name = {node.xname: node for node in self.site.nodes}
        wanted = ACTIONS[action]
        assert wanted is not None
        done = power_nodes(self.site, [by_name[name] for name in nodes], action)
        return {
            one.name: str(one.error or f"{one.name} is {one.after} after {action}: {one.detail}")
            for one in done
            if one.error or one.after != wanted.leads_to
        }

    def join(self, nodes: Sequence[str]) -> Errors:
        return join(self.site, self.pool, self.environment, nodes, self.boot_timeout, self.tell)

    def check_health(self, nodes: Sequence[str]) -> Errors:
        name = f"roll-check-{self.pool.name}"
        return run_on(self.health, nodes, name, self.environment, {}, [], HEALTH_SECONDS, self.tell)

    def uncordon(self, name: str) -> None:
        cluster_node.uncordon(name)
