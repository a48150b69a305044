"""The Ansible module openchami_forget: whom it tells, and what it refuses."""

import io
import json
import sys
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from sitewright.provisioning.openchami_http import Services

NODE = {"xname": "x1000c0s0b0n0", "bmc": "x1000c0s0b0", "mac": "02:00:00:00:00:01"}


class Client:
    """Stands in for OpenChami."""

    def __init__(self, services: Services, check: bool) -> None:
        self.services, self.check, self.forgot = services, check, []

    def forget_boot(self, label: str, xnames: list[str]) -> None:
        self.forgot.append((label, xnames))

    def forget_nodes(self, label: str, nodes: list[dict[str, Any]]) -> None:
        self.forgot.append((label, [node["xname"] for node in nodes]))


def run(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, **urls: str
) -> tuple[list[Client], dict[str, Any]]:
    clients: list[Client] = []
    out = io.StringIO()
    monkeypatch.setattr(
        module, "OpenChami", lambda *_, **given: clients.append(Client(*_, **given)) or clients[0]
    )
    monkeypatch.setattr(sys, "stdout", out)
    with (
        patch_module_args({"pool": "gpu", "nodes": [NODE], "smd": "http://smd", **urls}),
        pytest.raises(SystemExit),
    ):
        module.main()
    return clients, json.loads(out.getvalue())


@pytest.mark.parametrize("backend", ["bss", "boot_service"])
def test_smd_and_what_gives_out_boot_scripts_are_told(ansible_module, monkeypatch, backend: str) -> None:
    [client], result = run(ansible_module("openchami_forget"), monkeypatch, **{backend: "http://boot"})
    assert client.services == Services(
        **{"smd": "http://smd", "bss": "", "cloud_init": "", backend: "http://boot"}
    )
    assert client.forgot == [("gpu", [NODE["xname"]])] * 2 and result["changed"]


@pytest.mark.parametrize("urls", [{}, {"bss": "http://b", "boot_service": "http://s"}])
def test_neither_and_both_are_refused(ansible_module, monkeypatch, urls: dict[str, str]) -> None:
    clients, result = run(ansible_module("openchami_forget"), monkeypatch, **urls)
    assert result["failed"] and "bss" in result["msg"] and "boot_service" in result["msg"]
    assert clients == []
