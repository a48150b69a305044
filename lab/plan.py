"""What the site file means for the lab: which service listens where. Everything is read from the site, so a
changed address needs no change here."""

import ipaddress
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from lab import paths
from sitewright.errors import SitewrightError
from sitewright.site import Network, Node, Site, load
from sitewright.site.service_sections import GatewayDatabase

HYPERVISOR_PORT = 7443
Address = tuple[str, int]


@dataclass(frozen=True)
class LabPlan:
    site: Site

    @classmethod
    def of(cls, environment: str) -> Self:
        """The plan of a site file. From here on `lab.paths` is about its state directory, in this process
        and in all that it starts."""
        plan = cls(load(environment))
        if plan.site.lab:
            os.environ.setdefault("SITEWRIGHT_LAB_STATE_DIR", str(plan.site.lab.state_dir))
        return plan

    def __post_init__(self) -> None:
        if self.site.lab is None:
            raise SitewrightError(
                f"{self.site.name} is a real site: its site file has no `lab` section",
                "Use the site file of a lab (`sitewright lab -e lab …`).",
            )

    @property
    def state(self) -> Path:
        return paths.state_dir()

    @cached_property
    def gateway(self) -> str:
        """The address that the lab's own services share: the gateway of the first network."""
        return str(self.site.networks[0].gateway)

    @property
    def hypervisor_api(self) -> Address:
        return self.gateway, HYPERVISOR_PORT

    @property
    def hypervisor_url(self) -> str:
        """The hypervisor's API as the operator's machine reaches it."""
        host, port = self.site.operator_endpoint(*self.hypervisor_api)
        return f"https://{host}:{port}"

    @property
    def registry(self) -> Address:
        return address_of(self.site.registry.endpoint)

    @property
    def image_servers(self) -> list[Address]:
        """Where VM images and boot images are fetched from; usually one."""
        urls = [str(image.url) for image in self.vm_images]
        urls += [str(self.site.image_server.url)] if self.site.image_server else []
        return sorted({address_of(url) for url in urls})

    @property
    def wanted_database(self) -> GatewayDatabase | None:
        front = self.site.services.gateway
        return front.database if front else None

    @property
    def database(self) -> Address:
        """The lab runs one, whichever number the site file has."""
        assert self.wanted_database is not None
        host, _, port = self.wanted_database.addresses[0].rpartition(":")
        return host, int(port)

    @property
    def vm_images(self) -> list:
        return list(self.site.hypervisor.images) if self.site.hypervisor else []

    @property
    def provisioner_addresses(self) -> list[Address]:
        urls = self.site.provisioner
        return [address_of(str(url)) for url in (urls.smd, urls.boots, urls.cloud_init)] if urls else []

    @property
    def environment(self) -> str:
        """What another program of the lab passes to `sitewright.site.load` to get the same site."""
        return str(self.site.file) if self.site.file else self.site.name

    @property
    def bmcs(self) -> dict[str, str]:
        """Address of each BMC."""
        return {node.bmc: node.bmc_address for node in self.site.nodes}

    @property
    def bmc_port(self) -> int:
        return self.site.bmc.port if self.site.bmc else 443

    def addresses(self, network: Network) -> list[str]:
        """What the lab itself answers on in a network: the gateway, its services, and the BMCs there."""
        range_ = ipaddress.ip_network(network.cidr)
        wanted = [network.gateway, self.gateway, self.registry[0], *(host for host, _ in self.image_servers)]
        wanted += [self.database[0]] if self.wanted_database else []
        inside = [a for a in [*wanted, *self.bmcs.values()] if ipaddress.ip_address(a) in range_]
        return [f"{address}/{range_.prefixlen}" for address in dict.fromkeys(map(str, inside))]

    def nodes_on(self, network: Network) -> list[Node]:
        return [node for node in self.site.nodes if node.network == network.name]


def address_of(url: str) -> Address:
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    return parts.hostname or "", parts.port or default
