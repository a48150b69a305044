"""What Redfish sees: the nodes of one BMC as systems of the sushy-tools emulator.

Source: sushy-tools 2.2.0, `AbstractSystemsDriver`.
"""

import uuid
from dataclasses import dataclass
from typing import Any

from sushy_tools import error
from sushy_tools.emulator.resources.systems.base import AbstractSystemsDriver

from lab.bmc.power import NodePower
from sitewright.site import Node

# The emulator advertises these, and `Nmi`, which a node of this driver has no use for.
RESET_TYPES = ("On", "ForceOn", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart")


@dataclass(frozen=True)
class Board:
    """One node and its power."""

    node: Node
    power: NodePower

    @property
    def uuid(self) -> str:
        """The same for the same xname, on every machine and after every `lab down`."""
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, self.node.xname))


class NodeSystems(AbstractSystemsDriver):
    """A system per node, named by its xname. The emulator sends a client that asks by name on to the UUID."""

    def __init__(self, boards: list[Board]) -> None:
        super().__init__()
        self._boards = {board.uuid: board for board in boards}
        self._uuids = {board.node.xname: board.uuid for board in boards}

    def _board(self, identity: str) -> Board:
        if identity in self._boards:
            return self._boards[identity]
        if identity in self._uuids:
            raise error.AliasAccessError(self._uuids[identity])
        raise error.NotFound(f"This BMC has no system {identity}")

    @property
    def driver(self) -> str:
        return "<sitewright lab>"

    @property
    def systems(self) -> list[str]:
        return list(self._boards)

    def uuid(self, identity: str) -> str:
        return self._uuids.get(identity) or self._board(identity).uuid

    def name(self, identity: str) -> str:
        return identity if identity in self._uuids else self._board(identity).node.xname

    def get_power_state(self, identity: str) -> str:
        return self._board(identity).power.state

    def set_power_state(self, identity: str, state: str) -> None:
        power = self._board(identity).power
        if state not in RESET_TYPES:
            raise error.NotSupportedError(f"ResetType {state} is not one of {', '.join(RESET_TYPES)}")
        if state.endswith("Restart") and power.state == "Off":
            raise error.BadRequest(f"{state} cannot be done: the system is Off")
        if state in ("On", "ForceOn"):
            power.on()
        elif state == "ForceOff":
            power.off()
        elif state == "GracefulShutdown":
            power.shutdown()
        else:
            power.restart(graceful=state == "GracefulRestart")

    def get_boot_device(self, identity: str) -> str:
        self._board(identity)
        return "Pxe"

    def set_boot_device(self, identity: str, boot_source: str) -> None:
        self._board(identity)
        if boot_source != "Pxe":
            raise error.BadRequest(f"This node has no disk: it boots by Pxe, not by {boot_source}")

    def get_total_memory(self, identity: str) -> int:
        return self._board(identity).node.memory >> 30

    def get_total_cpus(self, identity: str) -> int:
        return self._board(identity).node.cpus

    def get_nics(self, identity: str) -> list[dict[str, Any]]:
        mac = self._board(identity).node.mac
        return [{"id": mac, "mac": mac}]
