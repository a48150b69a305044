"""What the provisioner knows of the machine that asks: its name, its pool, when it fetched its boot script.

Source: SMD 2.20.5 and BSS 1.32, exchanges replayed by tests/contracts/test_provisioner.py.
"""

from pathlib import Path
from typing import Any

import httpx

from modules.nodes.node_identity_service.refusals import NOT_OURS, TRY_AGAIN, UNKNOWN_ADDRESS, Refused


class Answers:
    """What OpenCHAMI's services say. token_file: of a JWT, read at each request, since such a token is renewed."""

    def __init__(self, http: httpx.AsyncClient, token_file: str | None) -> None:
        self._http, self._token_file = http, token_file

    async def get(self, url: str, query: dict[str, str], shape: type) -> Any:
        """Raises: Refused where there is no answer, or one of another shape."""
        headers = {}
        if self._token_file:
            headers["Authorization"] = f"Bearer {Path(self._token_file).read_text().strip()}"
        try:
            answer = await self._http.get(url, params=query, headers=headers)
            answer.raise_for_status()
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Refused(TRY_AGAIN, f"the provisioner does not answer: {_what(error)}") from error
        if not isinstance(found, shape):
            raise Refused(TRY_AGAIN, f"the provisioner answers {url} with something else than expected")
        return found


class Provisioner:
    """smd: base URL."""

    def __init__(self, answers: Answers, smd: str) -> None:
        self._answers, self._smd = answers, smd

    async def xname(self, address: str) -> str:
        """The node that has this address. Raises: Refused where none has it, or more than one."""
        url = f"{self._smd}/hsm/v2/Inventory/EthernetInterfaces"
        found = await self._answers.get(url, {"IPAddress": address}, list)
        # Asked for one address, and believed only where the answer says the same.
        names = {
            interface["ComponentID"]
            for interface in found
            if address in [entry["IPAddress"] for entry in interface["IPAddresses"]]
        }
        if len(names) != 1:
            raise Refused(UNKNOWN_ADDRESS, f"the provisioner knows {len(names)} nodes with address {address}")
        return str(names.pop())

    async def require_member(self, xname: str, pools: tuple[str, ...]) -> None:
        """Raises: Refused where the node is in none of the pools of this cluster."""
        found = await self._answers.get(f"{self._smd}/hsm/v2/memberships/{xname}", {}, dict)
        if not set(found.get("groupLabels") or []) & set(pools):
            raise Refused(NOT_OURS, f"{xname} is in no pool of this cluster")


class FetchedScripts:
    """A BootRecord: BSS notes who fetches a boot script. bss: base URL."""

    proof = "fetched its boot script"

    def __init__(self, answers: Answers, bss: str) -> None:
        self._answers, self._bss = answers, bss

    async def booted(self, xname: str) -> int:
        query = {"name": xname, "endpoint": "bootscript"}
        found = await self._answers.get(f"{self._bss}/boot/v1/endpoint-history", query, list)
        return max((int(entry["last_epoch"]) for entry in found if entry["name"] == xname), default=0)


def _what(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"{error.request.url} gave {error.response.status_code}"
    return type(error).__name__
