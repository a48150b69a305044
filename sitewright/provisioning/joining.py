"""What the nodes of a pool are told about their cluster when they join it, from the site file."""

from typing import Any

from modules.node_identity import PORT
from modules.node_join import NodeMemory
from sitewright.site import Pool, Site


def join_facts(site: Site, pool: Pool) -> dict[str, Any]:
    """Arguments of modules.node_join.settings, but for endpoint and authority of the cluster, which it has itself."""
    cluster = site.cluster(pool.cluster)
    budget = site.memory_budget(pool)
    return {
        # Each control plane by its own address: an address in front of them would hide that of the node.
        "identity": tuple(f"https://{one.address}:{PORT}" for one in site.control_plane(cluster)),
        "dns_address": cluster.dns_address,
        "labels": pool.node_labels,
        "taints": tuple(map(str, pool.taints)),
        "memory": NodeMemory(**{name: getattr(budget, name) for name in NodeMemory.model_fields}),
    }
