"""Layer 2 of 5, clusters: a control plane on its VMs, and the registry filled with what it runs.

Needs:    VirtualMachines.
Provides: a ClusterHandle per cluster.
"""

import pulumi

from modules.clusters.kubernetes_cluster import API_PORT, KubernetesCluster, KubernetesClusterSpec
from modules.machines.virtual_machine import VirtualMachine
from sitewright.provider import PlaybookRun
from sitewright.site import Cluster, Site
from stacks.access import environment
from stacks.handles import ClusterHandle, VirtualMachines, kubernetes_provider

IMAGES = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "etcd",
    "pause",
    "coredns",
    "kube-proxy",
    "kube-router",
    "node-identity",
)


def clusters(site: Site, machines: VirtualMachines) -> dict[str, ClusterHandle]:
    if not site.clusters:
        return {}
    images = registry_images(site, "cluster-images", _images(site))
    return {cluster.name: _cluster(site, cluster, images, machines) for cluster in site.clusters}


def _images(site: Site) -> tuple[str, ...]:
    """RKE2 brings its own; nodes that join it run `pause` as any node does, and get their identity the same way."""
    kubeadm = any(cluster.distribution == "kubeadm" for cluster in site.clusters)
    return IMAGES if kubeadm else ("pause", "node-identity")


def registry_images(site: Site, name: str, names: tuple[str, ...]) -> pulumi.Output[dict[str, str]]:
    """Container images by digest, in the site's registry."""
    filled = PlaybookRun(
        name,
        playbook="playbooks/fill-registry.yml",
        verify="playbooks/verify-registry.yml",
        environment=environment(site),
        variables={
            "registry": site.operator_url(site.registry.endpoint),
            "node_registry": site.registry.endpoint.partition("://")[2],
            "images": list(names),
        },
        files=[f"images/containers/{image}/**" for image in names],
        timeout="30m",
    )
    images: pulumi.Output[dict[str, str]] = filled.result("images")
    return images


def _cluster(
    site: Site, cluster: Cluster, images: pulumi.Output[dict[str, str]], machines: VirtualMachines
) -> ClusterHandle:
    made = KubernetesCluster(
        _spec(site, cluster),
        environment(site),
        images,
        _identities(machines, [vm.name for vm in site.control_plane(cluster)]),
        opts=pulumi.ResourceOptions(depends_on=machines.ready),
    )
    return ClusterHandle(
        name=cluster.name,
        kubeconfig=made.kubeconfig,
        endpoint=made.endpoint,
        ca_certificate=made.ca_certificate,
        images=images,
        provider=kubernetes_provider(cluster.name, made.kubeconfig),
        ready=[made.ready],
        agent_token=made.agent_token,
    )


def _identities(machines: VirtualMachines, names: list[str]) -> dict[str, pulumi.Output[str]]:
    """The uid that the hypervisor gave each VM; none of those that another stack made."""
    return {
        vm.name: vm.ready.metadata.apply(lambda metadata: metadata.get("uid", ""))
        for vm in machines.ready
        if isinstance(vm, VirtualMachine) and vm.name in names
    }


def _spec(site: Site, cluster: Cluster) -> KubernetesClusterSpec:
    control_planes = site.control_plane(cluster)
    host, port = site.operator_endpoint(cluster.endpoint_address, API_PORT)
    return KubernetesClusterSpec.model_validate(
        {
            "name": cluster.name,
            "distribution": cluster.distribution,
            "version": cluster.version,
            "control_planes": tuple(vm.name for vm in control_planes),
            "endpoint": cluster.endpoint_address,
            "first_address": control_planes[0].address,
            "operator_server": f"https://{host}:{port}",
            "pod_cidr": cluster.pod_cidr,
            "service_cidr": cluster.service_cidr,
            "dns_address": cluster.dns_address,
            "registry": site.registry.endpoint,
            "artifacts": cluster.artifacts,
        }
    )
