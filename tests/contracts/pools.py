"""A pool of nodes as the resources of a NodePool declare it, without an engine; and the way to its provisioner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sitewright.provisioning.openchami import EXCLUSIVE, Boot, Configuration, Group, OpenChami
from sitewright.provisioning.openchami_http import folded


@dataclass(frozen=True)
class Pool:
    """nodes: dicts of site.Node."""

    name: str
    cluster: str
    nodes: Sequence[Mapping[str, Any]]
    boot: Boot
    cloud_config: str

    @property
    def group(self) -> Group:
        return Group(self.name, f"pool {self.name} of cluster {self.cluster}", EXCLUSIVE)

    @property
    def configuration(self) -> Configuration:
        described = f"nodes of pool {self.name}"
        return Configuration(self.name, described, {"cluster-name": self.cluster}, self.cloud_config)


class PoolClient(OpenChami):
    """What the four resources of a pool do, one after the other."""

    def declare(self, pool: Pool) -> list[str]:
        xnames = [node["xname"] for node in pool.nodes]
        differing = [
            *self.declare_group(pool.group),
            *self.declare_configuration(pool.configuration),
            *self.declare_nodes(pool.name, pool.nodes),
        ]
        booting = self.set_boot(pool.name, xnames, pool.boot)
        return [*differing, *([f"boot parameters of {folded(booting)}"] if booting else [])]

    def release(self, nodes: Sequence[Mapping[str, Any]], name: str = "gpu") -> None:
        self.forget_boot(name, [node["xname"] for node in nodes])
        self.forget_nodes(name, nodes)

    def end(self, pool: Pool) -> None:
        self.release(pool.nodes, pool.name)
        self.forget_configuration(pool.name)
        self.forget_group(pool.name)


def publish(document: dict[str, Any], urls: Mapping[str, str], *more: dict[str, Any]) -> None:
    """Has a site file lead to a provisioner that listens on ports of its own, and to more; the rest of it stays.

    urls: by service.
    """
    given = [
        {"name": name, "to": [f"10.77.0.1:{port}"], "port": int(urls[name].rpartition(":")[2])}
        for name, port in (("smd", 27779), ("bss", 27778), ("cloud-init", 27777), ("boot-service", 27776))
    ]
    given += more
    led = {target for one in given for target in one["to"]}
    kept = [one for one in document["lab"]["publish"] if not led & set(one["to"])]
    document["lab"]["publish"] = [*kept, *given]
