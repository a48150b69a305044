"""Layer 3 of 5, platform: pod network, Services and names on each cluster that does not bring its own.

Needs:    ClusterHandles.
Provides: PlatformHandle, when pods reach each other.
"""

import pulumi

from modules.clusters.kubernetes_cluster import API_PORT
from modules.clusters.platform import IMAGES, Platform
from modules.clusters.platform_parts import PlatformSpec
from sitewright.site import Cluster, Site
from stacks.handles import ClusterHandle, PlatformHandle


def platform(site: Site, clusters: dict[str, ClusterHandle]) -> PlatformHandle:
    return PlatformHandle(
        {
            cluster.name: _platform(cluster, clusters[cluster.name])
            for cluster in site.clusters
            if cluster.distribution == "kubeadm"
        }
    )


def _platform(cluster: Cluster, handle: ClusterHandle) -> list[pulumi.Resource]:
    spec = PlatformSpec.model_validate(
        {
            "endpoint": cluster.endpoint_address,
            "port": API_PORT,
            "pod_cidr": cluster.pod_cidr,
            "service_cidr": cluster.service_cidr,
            "dns_address": cluster.dns_address,
            "images": dict.fromkeys(IMAGES, ""),
        }
    )
    on_cluster = pulumi.ResourceOptions(provider=handle.provider, depends_on=handle.ready)
    return Platform(f"{cluster.name}-platform", spec, handle.images, opts=on_cluster).ready
