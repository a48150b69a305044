"""Pools whose boot image does not fit the distribution of their cluster."""

from collections.abc import Iterator

from sitewright.site.boot_recipe import layers
from sitewright.site.checks.finding import Finding
from sitewright.site.model import Cluster, Site

KUBELET = {"kubeadm": "kubernetes_node", "rke2": "rke2_agent"}
"""The layer that brings the kubelet which joins a cluster of this distribution."""
EXAMPLE = {"kubeadm": "compute", "rke2": "compute-rke2"}


def check(site: Site) -> Iterator[Finding]:
    yield from _pools(site)
    yield from _images(site)


def _pools(site: Site) -> Iterator[Finding]:
    clusters = {cluster.name: cluster for cluster in site.clusters}
    for index, pool in enumerate(site.pools):
        cluster, found = clusters.get(pool.cluster), layers(pool.boot_image)
        if cluster is None or not found or KUBELET[cluster.distribution] in found:
            continue
        wanted, example = KUBELET[cluster.distribution], EXAMPLE[cluster.distribution]
        message = (
            f"image {pool.boot_image!r} has no layer {wanted}, which the nodes of cluster {cluster.name!r} "
            f"(distribution {cluster.distribution}) join with; images/boot/{example} is one that has"
        )
        yield Finding(("pools", index, "boot_image"), message)


def _images(site: Site) -> Iterator[Finding]:
    for index, image in enumerate(site.boot_images):
        found = layers(image.name)
        if found >= set(KUBELET.values()):
            message = f"its recipe has the layers {' and '.join(KUBELET.values())}; a node runs one kubelet"
            yield Finding(("boot_images", index), message)
        elif KUBELET["rke2"] in found:
            yield from _release(site, image.name, index)


def _release(site: Site, image: str, index: int) -> Iterator[Finding]:
    """The image holds the release of the cluster that its nodes join, and so that of one cluster only."""
    clusters = rke2_clusters(site, image)
    releases = {(cluster.version, cluster.artifacts) for cluster in clusters}
    if not any(pool.boot_image == image for pool in site.pools):
        message = "it holds RKE2 of the release of the cluster that its nodes join, and no pool boots it"
        yield Finding(("boot_images", index), message)
    if len(releases) > 1:
        said = ", ".join(f"{cluster.name!r} {cluster.version} of {cluster.artifacts}" for cluster in clusters)
        message = f"it holds one release of RKE2, its pools join clusters of several; give each its own image: {said}"
        yield Finding(("boot_images", index), message)


def rke2_clusters(site: Site, image: str) -> list[Cluster]:
    """The RKE2 clusters that nodes with this image join."""
    names = {pool.cluster for pool in site.pools if pool.boot_image == image}
    return [cluster for cluster in site.clusters if cluster.name in names and cluster.distribution == "rke2"]
