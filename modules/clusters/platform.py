"""What makes a bare control plane usable: pod routes and network policies, Services, names.

kube-router carries pod routes (BGP between nodes of one network, no overlay) and enforces NetworkPolicy;
kube-proxy serves Services with nftables; CoreDNS answers names. RKE2 brings its own and needs none of this.
"""

from typing import Any

import pulumi

from modules.clusters.platform_names import coredns
from modules.clusters.platform_network import kube_proxy, kube_router
from modules.clusters.platform_parts import PlatformSpec
from modules.manifest import Manifest

IMAGES = ("kube-router", "kube-proxy", "coredns")


def render(spec: PlatformSpec) -> list[dict[str, Any]]:
    """All manifests, in the order they are applied."""
    return [*kube_router(spec), *kube_proxy(spec), *coredns(spec)]


class Platform(pulumi.ComponentResource):
    """Pods reach each other, Services and names once `ready` are there.

    images: references by digest; known only once the registry is filled.
    """

    def __init__(
        self,
        name: str,
        spec: PlatformSpec,
        images: pulumi.Input[dict[str, str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("sitewright:modules:Platform", name, None, opts)
        references = pulumi.Output.from_input(images)
        self.ready: list[pulumi.Resource] = []
        for manifest in render(spec):
            _replace_image(manifest, references)
            identity = f"{manifest['kind']}-{manifest['metadata']['name']}".lower()
            self.ready.append(
                Manifest(
                    manifest, f"{name}-{identity.replace(':', '-')}", pulumi.ResourceOptions(parent=self)
                )
            )
        self.register_outputs({})


def _replace_image(manifest: dict[str, Any], images: pulumi.Output[dict[str, str]]) -> None:
    """Each container is named like the image it runs."""
    template = manifest.get("spec", {}).get("template")
    for container in template["spec"]["containers"] if template else ():
        container["image"] = images[container["name"]]
