"""What a node of an RKE2 cluster needs beside its certificate: the agents' token, and a password that stays its own.

RKE2 keeps a hash of the password that a node came with first, and refuses the name with another one; without a file
a node invents one at each boot. Source: k3s pkg/nodepassword/validate.go, pkg/agent/config/config.go.
"""

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from modules.nodes.node_identity_service.refusals import TRY_AGAIN, Refused


@dataclass(frozen=True)
class Rke2:
    """directory: of the mounted Secret, with the files agent-token and password-key. Read at each request, since a
    Secret that is changed changes under a pod."""

    directory: Path

    def secrets(self, xname: str) -> dict[str, str]:
        """The same for the same node as long as the Secret is. Raises: Refused where a part of it is missing."""
        key = self._read("password-key")
        password = hmac.new(key.encode(), xname.encode(), hashlib.sha256).hexdigest()
        return {"agent_token": self._read("agent-token"), "node_password": password}

    def _read(self, name: str) -> str:
        try:
            found = (self.directory / name).read_text().strip()
        except OSError as error:
            raise Refused(TRY_AGAIN, f"the service cannot read its {name}: {error.strerror}") from error
        if not found:
            raise Refused(TRY_AGAIN, f"the service has no {name}")
        return found
