"""What a layer hands to the next. Layers that live in another stack are met here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from sitewright.site import Cluster


@dataclass(frozen=True)
class VirtualMachines:
    """From hypervisor. addresses: by name of the VM; ready: what depends on running VMs."""

    addresses: dict[str, str] = field(default_factory=dict)
    ready: Sequence[pulumi.Resource] = ()


@dataclass(frozen=True)
class ClusterHandle:
    """From clusters. kubeconfig is a secret; images: references by digest; agent_token: secret with which RKE2's
    agents join, None of another distribution."""

    name: str
    kubeconfig: pulumi.Output[str]
    endpoint: pulumi.Output[str]
    ca_certificate: pulumi.Output[str]
    images: pulumi.Output[dict[str, str]]
    provider: kubernetes.Provider
    ready: Sequence[pulumi.Resource] = ()
    agent_token: pulumi.Output[str] | None = None


@dataclass(frozen=True)
class PlatformHandle:
    """From platform. ready: by cluster, what depends on pods that reach each other."""

    ready: dict[str, Sequence[pulumi.Resource]] = field(default_factory=dict)


@dataclass(frozen=True)
class NodePoolHandle:
    """From nodes. nodes: by pool, what each node runs; ready: by pool, what depends on Ready nodes."""

    nodes: dict[str, pulumi.Output[dict[str, Any]]] = field(default_factory=dict)
    ready: dict[str, Sequence[pulumi.Resource]] = field(default_factory=dict)


@dataclass(frozen=True)
class ServicesHandle:
    """From services. models: URL of each served model as the operator's machine reaches it; keys: of each team, for
    the gateway, secrets."""

    models: dict[str, pulumi.Input[str]] = field(default_factory=dict)
    keys: dict[str, pulumi.Output[str]] = field(default_factory=dict)


def kubernetes_provider(
    cluster: str, kubeconfig: pulumi.Input[str], opts: pulumi.ResourceOptions | None = None
) -> kubernetes.Provider:
    """A provider whose identity is the cluster's name: a new kubeconfig must not replace what it manages.

    Secrets and ConfigMaps are changed in place. Replaced, which is the default, they are gone for a moment, since
    their names are ours, and what starts then does not start.
    """
    return kubernetes.Provider(
        cluster,
        kubeconfig=pulumi.Output.secret(kubeconfig),
        cluster_identifier=cluster,
        enable_secret_mutable=True,
        enable_config_map_mutable=True,
        opts=opts,
    )


def clusters_of(stack: str, clusters: Sequence[Cluster]) -> dict[str, ClusterHandle]:
    """The clusters another stack made; `stack` is its name, such as `prod-infra`."""
    reference = pulumi.StackReference(f"organization/{pulumi.get_project()}/{stack}")
    made, kubeconfigs = reference.require_output("clusters"), reference.require_output("kubeconfigs")
    handles = {}
    for cluster in clusters:
        token = (
            reference.require_output("agent_tokens")[cluster.name] if cluster.distribution == "rke2" else None
        )
        handles[cluster.name] = _from_outputs(
            cluster.name, made[cluster.name], kubeconfigs[cluster.name], token
        )
    return handles


def _from_outputs(
    name: str, cluster: pulumi.Output[Any], kubeconfig: pulumi.Output[Any], token: pulumi.Output[Any] | None
) -> ClusterHandle:
    return ClusterHandle(
        name=name,
        kubeconfig=kubeconfig,
        endpoint=cluster["endpoint"],
        ca_certificate=cluster["ca_certificate"],
        images=cluster["images"],
        provider=kubernetes_provider(name, kubeconfig),
        agent_token=token,
    )
