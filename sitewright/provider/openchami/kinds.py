"""What each resource of OpenCHAMI says, and how it becomes so at the services.

The environment names the site file whose `provisioner` is spoken to. Keys are those of the Pulumi program.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from sitewright.errors import SitewrightError
from sitewright.provisioning.boot import Boot
from sitewright.provisioning.openchami import Configuration, Group, OpenChami
from sitewright.provisioning.openchami_http import folded
from sitewright.site.network_values import ip_address, mac_address
from sitewright.site.xname import Xname, XnameType


def _node(text: str) -> str:
    return _xname(text, XnameType.NODE)


def _bmc(text: str) -> str:
    return _xname(text, XnameType.NODE_BMC)


def _xname(text: str, kind: XnameType) -> str:
    try:
        return str(Xname.parse(text, kind))
    except SitewrightError as error:
        raise ValueError(error.message) from None


Label = Annotated[str, Field(pattern=r"^[-a-z0-9:._]+$")]  # SMD 2.20.5, pkg/sm
NodeXname = Annotated[str, AfterValidator(_node)]
BmcXname = Annotated[str, AfterValidator(_bmc)]
Mac = Annotated[str, AfterValidator(mac_address)]
Address = Annotated[str, AfterValidator(ip_address)]
Filled = Annotated[str, Field(min_length=1)]


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )


class Declared(_Model):
    """A resource. KEY: the input that names it at the services; another one is another resource."""

    KEY: ClassVar[str]

    environment: Filled
    """Name of the site file whose provisioner is told."""

    @property
    def identity(self) -> str:
        return f"{self.environment}/{getattr(self, self.KEY)}"

    def declare(self, services: OpenChami) -> list[str]:
        """Make it so. Returns: what differed. Raises: Held while another one has to give something first."""
        raise NotImplementedError

    def leave(self, services: OpenChami, old: Self) -> None:
        """Undo of what was declared before what would stay beside what is declared now."""

    def forget(self, services: OpenChami) -> None:
        """Undo it; what is already gone stays gone."""
        raise NotImplementedError

    def exists(self, services: OpenChami) -> bool:
        """Whether anything of it is there."""
        raise NotImplementedError

    @classmethod
    def found(cls, services: OpenChami, environment: str, key: str) -> Self | None:
        """The resource of that name as the services have it; None where they have none."""
        raise NotImplementedError


class NodeGroup(Declared):
    """A group of SMD. Its members come with Nodes."""

    KEY = "label"

    label: Label
    """Name of the group."""
    description: str = ""
    """Says whose it is: a group with members and another description is not taken over."""
    exclusive_group: str = ""
    """SMD's exclusiveGroup: of the groups that have the same one, a node is in one at most."""

    def declare(self, services: OpenChami) -> list[str]:
        return services.declare_group(Group(self.label, self.description, self.exclusive_group))

    def forget(self, services: OpenChami) -> None:
        services.forget_group(self.label)

    def exists(self, services: OpenChami) -> bool:
        return services.group(self.label) is not None

    @classmethod
    def found(cls, services: OpenChami, environment: str, key: str) -> Self | None:
        if (known := services.group(key)) is None:
            return None
        return cls(
            environment=environment,
            label=key,
            description=known.description,
            exclusive_group=known.exclusive,
        )


class CloudInitGroup(Declared):
    """What the cloud-init server gives to the nodes of the group of SMD that has the same name."""

    KEY = "name"

    name: Label
    """Name of the group."""
    description: str = ""
    meta_data: dict[str, str] = {}
    """What templates of the cloud-config can read."""
    cloud_config: str
    """Text that begins with #cloud-config. Every node of the group can read it: it holds no secret."""

    def declare(self, services: OpenChami) -> list[str]:
        return services.declare_configuration(
            Configuration(self.name, self.description, self.meta_data, self.cloud_config)
        )

    def forget(self, services: OpenChami) -> None:
        services.forget_configuration(self.name)

    def exists(self, services: OpenChami) -> bool:
        return services.configuration(self.name) is not None

    @classmethod
    def found(cls, services: OpenChami, environment: str, key: str) -> Self | None:
        if (known := services.configuration(key)) is None:
            return None
        return cls(
            environment=environment,
            name=key,
            description=known.description,
            meta_data=dict(known.meta_data),
            cloud_config=known.cloud_config,
        )


class Node(_Model):
    """What SMD has to know of a node."""

    nid: Annotated[int, Field(ge=1)]
    mac: Mac
    address: Address
    bmc: BmcXname
    bmc_address: Address
    bmc_mac: Mac


class Nodes(Declared):
    """Nodes of a group, with their BMCs and interfaces in SMD.

    A node that is no longer among them stays declared until it is released (playbooks/release-nodes.yml), since it may
    still run pods. The end of the resource forgets those it has.
    """

    KEY = "group"

    group: Label
    """Label of their NodeGroup."""
    nodes: Annotated[dict[NodeXname, Node], Field(min_length=1)]
    """By xname: nid, mac, address, bmc, bmcAddress, bmcMac."""

    @property
    def _plain(self) -> list[dict[str, Any]]:
        return [{"xname": xname, **node.model_dump()} for xname, node in self.nodes.items()]

    def declare(self, services: OpenChami) -> list[str]:
        return services.declare_nodes(self.group, self._plain)

    def leave(self, services: OpenChami, old: Self) -> None:
        """A blade that was swapped would still boot as the node."""
        for xname, node in self.nodes.items():
            if xname in old.nodes and old.nodes[xname].mac != node.mac:
                services.forget_interface(xname, old.nodes[xname].mac)

    def forget(self, services: OpenChami) -> None:
        services.forget_nodes(self.group, self._plain)

    def exists(self, services: OpenChami) -> bool:
        return not services.known().keys().isdisjoint(self.nodes)

    @classmethod
    def found(cls, services: OpenChami, environment: str, key: str) -> Self | None:
        if not (known := services.nodes(key)):
            return None
        if partly := [xname for xname, facts in known.items() if "mac" not in facts]:
            raise SitewrightError(
                f"{folded(partly)}: SMD knows no interface or no BMC of it",
                "Declare the nodes instead of importing them: what is missing is added.",
            )
        nodes = {
            xname: {name: value for name, value in facts.items() if name != "xname"}
            for xname, facts in known.items()
        }
        return cls.model_validate({"environment": environment, "group": key, "nodes": nodes})


class BootConfiguration(Declared):
    """What the nodes of a group boot."""

    KEY = "group"

    group: Label
    """Label of their NodeGroup; it names the resource."""
    nodes: Annotated[list[NodeXname], Field(min_length=1)]
    """xnames. BSS and boot-service are told them by node."""
    kernel: Filled
    """URL."""
    initrd: Filled
    """URL."""
    arguments: list[Filled] = []
    """They reach the kernel command line character for character."""

    def declare(self, services: OpenChami) -> list[str]:
        differing = services.set_boot(self.group, self.nodes, Boot(self.kernel, self.initrd, self.arguments))
        return [f"boot parameters of {folded(differing)}"] if differing else []

    def forget(self, services: OpenChami) -> None:
        services.forget_boot(self.group, self.nodes)

    def exists(self, services: OpenChami) -> bool:
        return bool(services.boots(self.nodes))

    @classmethod
    def found(cls, services: OpenChami, environment: str, key: str) -> Self | None:
        known = services.boots(services.nodes(key))
        if not known:
            return None
        by_boot: dict[tuple[str, str, str], list[str]] = {}
        for xname, boot in known.items():
            same = (boot.kernel_url, boot.initrd_url, " ".join(boot.arguments))
            by_boot.setdefault(same, []).append(xname)
        if len(by_boot) > 1:
            raise SitewrightError(
                f"group {key}: its nodes boot different things: " + "; ".join(map(folded, by_boot.values())),
                "Declare what they are to boot instead of importing it.",
            )
        [((kernel, initrd, arguments), xnames)] = by_boot.items()
        return cls(
            environment=environment,
            group=key,
            nodes=sorted(xnames),
            kernel=kernel,
            initrd=initrd,
            arguments=arguments.split(),
        )


KINDS: dict[str, type[Declared]] = {
    f"sitewright:openchami:{kind.__name__}": kind
    for kind in (NodeGroup, CloudInitGroup, Nodes, BootConfiguration)
}
"""By the type token of the resource."""
