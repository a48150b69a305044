"""What the nodes of a pool are told about their cluster when they join it, from the site file."""

from typing import Any

from modules.clusters.kubernetes_cluster import RKE2_JOIN_PORT
from modules.nodes.node_identity import PORT
from modules.nodes.node_join import NodeMemory, Rke2Join
from sitewright.site import Cluster, Pool, Site


def join_facts(site: Site, pool: Pool) -> dict[str, Any]:
    """Arguments of modules.nodes.node_join.settings, but for endpoint and authority, which the cluster has itself."""
    assert site.provisioner is not None  # a site with pools has one
    cluster = site.cluster(pool.cluster)
    budget = site.memory_budget(pool)
    return {
        # Each control plane by its own address: an address in front of them would hide that of the node.
        "identity": tuple(f"https://{one.address}:{PORT}" for one in site.control_plane(cluster)),
        "dns_address": cluster.dns_address,
        "labels": pool.node_labels,
        "taints": tuple(map(str, pool.taints)),
        "memory": NodeMemory(**{name: getattr(budget, name) for name in NodeMemory.model_fields}),
        "rke2": _rke2(site, cluster),
        "boot_notice": site.provisioner.bss is None,
    }


def _rke2(site: Site, cluster: Cluster) -> Rke2Join | None:
    if cluster.distribution != "rke2":
        return None
    return Rke2Join(
        version=cluster.version,
        server=f"https://{cluster.endpoint_address}:{RKE2_JOIN_PORT}",
        registry=site.registry.endpoint,
    )
