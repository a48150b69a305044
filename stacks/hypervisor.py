"""Layer 1 of 5, hypervisor: the image, the networks and the virtual machines of a site.

Needs:    the Harvester API.
Provides: VirtualMachines, names and addresses of machines that have booted, with the virtual addresses of
          the clusters in front of them.
"""

import pulumi
import pulumi_kubernetes as kubernetes

from modules.clusters.kubernetes_cluster import PORTS
from modules.clusters.load_balancer import LoadBalancer, LoadBalancerSpec
from modules.machines.virtual_machine import VirtualMachine, VirtualMachineSpec
from modules.machines.vm_image import VmImage, VmImageSpec
from modules.machines.vm_network import VmNetwork, VmNetworkSpec
from sitewright.site import Cluster, Network, Site, Vm
from stacks.access import hypervisor_kubeconfig, image_checksum, ssh_public_key
from stacks.handles import VirtualMachines, kubernetes_provider


def hypervisor(site: Site) -> VirtualMachines:
    if site.hypervisor is None:
        return VirtualMachines()
    namespace = site.hypervisor.namespace
    provider = kubernetes_provider("hypervisor", hypervisor_kubeconfig(site))
    space = kubernetes.core.v1.Namespace(
        namespace,
        metadata={"name": namespace},
        # It may hold what others made there.
        opts=pulumi.ResourceOptions(provider=provider, retain_on_delete=True),
    )
    on_harvester = pulumi.ResourceOptions(provider=provider, depends_on=[space])
    images = {
        image.name: VmImage(
            VmImageSpec(name=image.name, namespace=namespace, url=image.url, checksum=image_checksum(image)),
            opts=on_harvester,
        )
        for image in site.hypervisor.images
    }
    networks = {
        name: VmNetwork(_network(site, site.network(name)), opts=on_harvester)
        for name in sorted({vm.network for vm in site.vms})
    }
    machines = [
        VirtualMachine(
            _machine(site, vm, images[vm.image], networks[vm.network]),
            images[vm.image].storage_class,
            opts=pulumi.ResourceOptions(provider=provider, depends_on=[networks[vm.network]]),
        )
        for vm in site.vms
    ]
    balancers = [
        LoadBalancer(
            _balancer(site, cluster, networks),
            opts=pulumi.ResourceOptions(provider=provider, depends_on=machines),
        )
        for cluster in site.clusters
        if cluster.virtual_address is not None
    ]
    return VirtualMachines({machine.name: machine.address for machine in machines}, [*machines, *balancers])


def _network(site: Site, network: Network) -> VmNetworkSpec:
    assert site.hypervisor is not None
    return VmNetworkSpec.model_validate(
        {
            "name": network.name,
            "namespace": site.hypervisor.namespace,
            "cluster_network": site.hypervisor.cluster_network,
            "vlan": network.vlan,
            "cidr": network.cidr,
            "gateway": network.gateway,
        }
    )


def _balancer(site: Site, cluster: Cluster, networks: dict[str, VmNetwork]) -> LoadBalancerSpec:
    assert site.hypervisor is not None
    control_planes = site.control_plane(cluster)
    network = site.network(control_planes[0].network)
    return LoadBalancerSpec.model_validate(
        {
            "name": f"{cluster.name}-api",
            "namespace": site.hypervisor.namespace,
            "address": cluster.virtual_address,
            "cidr": network.cidr,
            "gateway": network.gateway,
            "network": networks[network.name].network_id,
            "machines": tuple(vm.name for vm in control_planes),
            "ports": PORTS[cluster.distribution],
        }
    )


def _machine(site: Site, vm: Vm, image: VmImage, network: VmNetwork) -> VirtualMachineSpec:
    assert site.hypervisor is not None and site.ssh is not None
    return VirtualMachineSpec.model_validate(
        {
            "name": vm.name,
            "namespace": site.hypervisor.namespace,
            "image": image.image_id,
            "network": network.network_id,
            "cpus": vm.cpus,
            "memory": vm.memory,
            "disk": vm.disk,
            "address": vm.address,
            "prefix_length": vm.prefix_length,
            "gateway": vm.gateway,
            "mac": vm.mac,
            "ssh_user": site.ssh.user,
            "ssh_keys": (ssh_public_key(site),),
        }
    )
