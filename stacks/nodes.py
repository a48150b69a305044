"""Layer 4 of 5, nodes: diskless nodes that boot an image over the network and join a cluster.

Needs:    ClusterHandles; provisioner, BMCs and image server of the site.
Provides: NodePoolHandle, what each pool's nodes run, once they are Ready.
"""

from dataclasses import asdict
from typing import Any

import pulumi
import pulumi_random

from modules.nodes.boot_image import BootImage, BootImageSpec, Rke2Release
from modules.nodes.node_identity import NodeIdentity, NodeIdentitySpec
from modules.nodes.node_pool import NodePool, NodePoolSpec
from sitewright.provider import PlaybookRun
from sitewright.provisioning.joining import join_facts
from sitewright.site import Pool, Site
from sitewright.site.checks.distributions import rke2_clusters
from stacks.access import environment, provisioner_token, redfish_url, ssh_public_key
from stacks.handles import ClusterHandle, NodePoolHandle


def nodes(site: Site, clusters: dict[str, ClusterHandle]) -> NodePoolHandle:
    if not site.pools:
        return NodePoolHandle()
    pause = clusters[site.pools[0].cluster].images.apply(lambda found: found["pause"])
    images = {
        image.name: BootImage(_image(site, image.name), environment(site), pause)
        for image in site.boot_images
    }
    defaults = _cloud_init_defaults(site)
    identities = {
        name: _identity(site, clusters[name]) for name in dict.fromkeys(pool.cluster for pool in site.pools)
    }
    pools = {
        pool.name: _pool(
            site, pool, images[pool.boot_image], clusters[pool.cluster], [defaults, *identities[pool.cluster]]
        )
        for pool in site.pools
    }
    return NodePoolHandle(
        {name: pool.nodes for name, pool in pools.items()},
        {name: [pool.ready] for name, pool in pools.items()},
    )


def _image(site: Site, name: str) -> BootImageSpec:
    assert site.image_server is not None
    return BootImageSpec(
        name=name,
        publish_dir=str(site.image_server.publish_dir),
        url=site.image_server.url,
        registry=site.registry.endpoint,
        rke2=_rke2_release(site, name),
        signing_key=_text(site.image_server.signing_key),
    )


def _rke2_release(site: Site, image: str) -> Rke2Release | None:
    """Of the cluster whose nodes boot the image; None of an image with another kubelet."""
    clusters = rke2_clusters(site, image)
    if not clusters:
        return None
    return Rke2Release(version=clusters[0].version, artifacts=site.operator_url(str(clusters[0].artifacts)))


def _cloud_init_defaults(site: Site) -> PlaybookRun:
    """What the cloud-init server says to every node, whatever its pool: the only run that writes it."""
    assert site.provisioner is not None
    return PlaybookRun(
        "cloud-init-defaults",
        playbook="playbooks/set-cloud-init-defaults.yml",
        verify="playbooks/verify-cloud-init-defaults.yml",
        environment=environment(site),
        variables={
            "cloud_init": site.operator_url(site.provisioner.cloud_init),
            "cloud_init_url": site.provisioner.cloud_init,
            "token_file": _text(site.provisioner.token_file),
        },
    )


def _pool(
    site: Site, pool: Pool, image: BootImage, cluster: ClusterHandle, before: list[pulumi.Resource]
) -> NodePool:
    joins: dict[str, pulumi.Input[str]] = {
        "kubeconfig": cluster.kubeconfig,
        "endpoint": cluster.endpoint,
        "ca_certificate": cluster.ca_certificate,
    }
    return NodePool(
        NodePoolSpec.model_validate(_spec(site, pool)),
        environment(site),
        image.boot,
        joins,
        opts=pulumi.ResourceOptions(depends_on=[*cluster.ready, *before]),
    )


def _identity(site: Site, cluster: ClusterHandle) -> list[pulumi.Resource]:
    """What gives the nodes of a cluster their identity when they boot."""
    assert site.provisioner is not None
    provisioner = site.provisioner
    spec = NodeIdentitySpec(
        pools=tuple(pool.name for pool in site.pools if pool.cluster == cluster.name),
        smd=provisioner.smd,
        bss=provisioner.bss,
    )
    token = provisioner_token(site)
    return NodeIdentity(
        f"{cluster.name}-node-identity",
        spec,
        cluster.images["node-identity"],
        None if token is None else pulumi.Output.secret(token),
        _rke2_secrets(cluster),
        opts=pulumi.ResourceOptions(provider=cluster.provider, depends_on=cluster.ready),
    ).ready


def _rke2_secrets(cluster: ClusterHandle) -> dict[str, pulumi.Input[str]] | None:
    """What its nodes join with; None where they do with their certificate alone. The key outlives every node, and so
    do the passwords made of it."""
    if cluster.agent_token is None:
        return None
    key = pulumi_random.RandomPassword(f"{cluster.name}-rke2-node-passwords", length=48, special=False)
    return {"agent-token": cluster.agent_token, "password-key": pulumi.Output.secret(key.result)}


def _spec(site: Site, pool: Pool) -> dict[str, Any]:
    assert site.provisioner is not None and site.bmc is not None
    provisioner, bmc = site.provisioner, site.bmc
    return {
        "name": pool.name,
        "cluster": pool.cluster,
        "nodes": tuple(
            {**asdict(node), "bmc_url": redfish_url(site, node.bmc_address)}
            for node in site.pool_nodes(pool.name)
        ),
        "kernel_arguments": tuple(site.kernel_arguments(pool)),
        **join_facts(site, pool),
        "ssh_public_key": ssh_public_key(site),
        "provisioner": {
            "smd": site.operator_url(provisioner.smd),
            **{
                name: None if url is None else site.operator_url(url)
                for name, url in (
                    ("bss", provisioner.bss),
                    ("boot_service", provisioner.boot_service),
                    ("pcs", provisioner.pcs),
                )
            },
            "token_file": _text(provisioner.token_file),
        },
        "bmc": {
            "bmc_username": bmc.username,
            "bmc_password_file": str(bmc.password_file),
            "bmc_ca_file": _text(bmc.ca_file),
        },
    }


def _text(path: object) -> str | None:
    return None if path is None else str(path)
