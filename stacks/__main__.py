"""What `pulumi up` runs: the site file, then the layers from the ground up.

Configuration of the stack: `environment` (a name, or a path from the directory of Pulumi.yaml; default: the
stack's name), `layers` (default: all), and for a site that is split over stacks `infrastructure`, the stack
that holds the clusters.
"""

import json
from typing import Any

import pulumi

from sitewright.errors import SitewrightError
from sitewright.site import Site
from stacks.access import site_named
from stacks.clusters import clusters
from stacks.handles import NodePoolHandle, PlatformHandle, ServicesHandle, VirtualMachines, clusters_of
from stacks.hypervisor import hypervisor
from stacks.nodes import nodes
from stacks.platform import platform
from stacks.services import services

LAYERS = ("hypervisor", "clusters", "platform", "nodes", "services")


def main() -> None:
    config = pulumi.Config()
    site = site_named(config.get("environment") or pulumi.get_stack())
    layers = _layers(config)
    machines = hypervisor(site) if "hypervisor" in layers else VirtualMachines()
    if "clusters" in layers:
        handles = clusters(site, machines)
    elif {"platform", "nodes", "services"} & set(layers):
        handles = clusters_of(config.require("infrastructure"), site.clusters)
    else:
        handles = {}
    networked = platform(site, handles) if "platform" in layers else PlatformHandle()
    pools = nodes(site, handles) if "nodes" in layers else NodePoolHandle()
    served = services(site, handles, networked, pools) if "services" in layers else ServicesHandle()

    pulumi.export("virtual_machines", machines.addresses)
    pulumi.export(
        "clusters",
        {
            name: {"endpoint": c.endpoint, "ca_certificate": c.ca_certificate, "images": c.images}
            for name, c in handles.items()
        },
    )
    pulumi.export("kubeconfigs", {name: c.kubeconfig for name, c in handles.items()})
    tokens = {name: c.agent_token for name, c in handles.items() if c.agent_token is not None}
    if tokens:
        pulumi.export("agent_tokens", tokens)
    pulumi.export("nodes", _node_table(site, pools))
    pulumi.export("models", served.models)
    if served.keys:
        pulumi.export("gateway_keys", served.keys)
    pulumi.export("curl", {name: _curl(name, url) for name, url in served.models.items()})


def _layers(config: pulumi.Config) -> list[str]:
    layers = config.get_object("layers")
    if layers is None:
        return list(LAYERS)
    unknown = [layer for layer in layers if layer not in LAYERS] if isinstance(layers, list) else [layers]
    if unknown or not layers:
        raise SitewrightError(
            f"layers: {layers!r} is not a list of layers; they are {', '.join(LAYERS)}",
            """Write it as JSON: pulumi config set layers '["hypervisor", "clusters"]'""",
        )
    return layers


def _node_table(site: Site, pools: NodePoolHandle) -> dict[str, pulumi.Output[dict[str, Any]]]:
    """By pool: what its nodes run, with where they are."""
    places = {node.xname: node.address for node in site.nodes}

    def table(found: dict[str, Any]) -> dict[str, Any]:
        return {xname: {"address": places[xname], **facts} for xname, facts in found.items()}

    return {pool: found.apply(table) for pool, found in pools.nodes.items()}


def _curl(model: str, url: pulumi.Input[str]) -> pulumi.Output[str]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    return pulumi.Output.from_input(url).apply(
        lambda address: f"curl -s {address}/chat/completions -H 'Content-Type: application/json' -d '{body}'"
    )


try:
    main()
except SitewrightError as error:
    # Pulumi shows the message of this one, and no traceback.
    raise pulumi.RunError(str(error)) from error
