"""The lab's services with BSS, or with a boot-service that copies nodes from SMD; and what is asked of them."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx

from tests.contracts.pools import PoolClient
from tests.contracts.test_openchami import Site
from tests.contracts.test_provisioner import Provisioner

SEED = "http://10.77.0.1:27777"
BSS, BOOT_SERVICE = "bss", "boot-service"


class Asking(httpx.HTTPTransport):
    """asked: method and path of each request to what gives out boot scripts. before: done before each of them; refused:
    those that are answered with 400, by method."""

    def __init__(self, url: str, before: Callable[[], object]) -> None:
        super().__init__(
            verify=False
        )  # no TLS here, and its certificates take longer to read than an answer takes
        self._url, self._before = httpx.URL(url), before
        self.asked: list[str] = []
        self.refused: set[str] = set()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.port == self._url.port:
            self._before()
            path = re.sub(r"/bootconfiguration-[0-9a-f]+", "/<uid>", request.url.path)
            self.asked.append(f"{request.method} {path}")
            if request.method in self.refused:
                return httpx.Response(400, text="not now", request=request)
        return super().handle_request(request)


class BootSite(Site):
    """copies: whether boot-service sees at once what SMD knows."""

    def __init__(self, provisioner: Provisioner, backend: str) -> None:
        super().__init__(provisioner)
        self._http = httpx.Client(transport=httpx.HTTPTransport(verify=False))
        self.backend, self.copies = backend, True
        if backend == BOOT_SERVICE:
            url = self._urls[BOOT_SERVICE]
            self.services = replace(self.services, bss="", boot_service=url, seed=SEED)
        self.transport = self.way()
        self.write = PoolClient(self.services, transport=self.transport)
        self.ask = PoolClient(self.services, check=True, transport=self.way())

    @property
    def urls(self) -> dict[str, str]:
        return self._urls

    @property
    def url(self) -> str:
        return self._urls[self.backend]

    def way(self) -> Asking:
        return Asking(self.url, self._copy_from_smd if self.backend == BOOT_SERVICE else lambda: None)

    def send(self, service: str, method: str, path: str, body: object = None) -> Any:
        answer = self._http.request(method, self._urls[service] + path, json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def asks(self, work: Callable[[PoolClient], Any]) -> list[str]:
        """What the work asks of what gives out boot scripts."""
        way = self.way()
        work(PoolClient(self.services, transport=way))
        return way.asked

    def script(self, xname: str) -> str:
        self._copy_from_smd()
        query = {"name": xname, "host": xname, "arch": "x86_64"}
        path = "/boot/v1/bootscript" if self.backend == BSS else "/bootscript"
        return self._http.get(f"{self.url}{path}", params=query).text

    def told(self) -> Any:
        """All that was declared of boots."""
        path = "/boot/v1/bootparameters" if self.backend == BSS else "/bootconfigurations"
        return self.send(self.backend, "GET", path)

    def add(self, name: str, **spec: Any) -> str:
        """A configuration in boot-service that somebody else made. Returns: its uid."""
        body = {"metadata": {"name": name}, "spec": spec}
        return str(self.send(BOOT_SERVICE, "POST", "/bootconfigurations", body)["metadata"]["uid"])

    def _copy_from_smd(self) -> None:
        """As boot-service does it every few minutes (`--hsm-url`; pkg/clients/hsm): without groups, and what SMD
        forgets stays."""
        if not self.copies:
            return
        macs = {
            one["ComponentID"]: one["MACAddress"]
            for one in self.send("smd", "GET", "/hsm/v2/Inventory/EthernetInterfaces")
        }
        known = {one["spec"]["xname"]: one for one in self.send(BOOT_SERVICE, "GET", "/nodes")}
        for one in self.send("smd", "GET", "/hsm/v2/State/Components")["Components"]:
            if one.get("Type") != "Node" or one.get("Role") != "Compute":
                continue
            spec = {"xname": one["ID"], "nid": one["NID"], "bootMac": macs.get(one["ID"], ""), "groups": []}
            body = {"metadata": {"name": one["ID"]}, "spec": spec}
            if one["ID"] not in known:
                self.send(BOOT_SERVICE, "POST", "/nodes", body)
            elif known[one["ID"]]["spec"] != spec:
                self.send(BOOT_SERVICE, "PUT", f"/nodes/{known[one['ID']]['metadata']['uid']}", body)
