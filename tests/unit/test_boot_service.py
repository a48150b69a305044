"""boot-service as it was recorded, and what is made of its answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from sitewright.errors import SitewrightError
from sitewright.provisioning.boot import Boot
from sitewright.provisioning.boot_service import BootService
from sitewright.provisioning.boot_service_match import PRIORITY, Configuration, Matching
from sitewright.provisioning.openchami_http import Http, Services

RECORDS = Path(__file__).parent.parent / "data" / "contracts"
XNAME = "x1000c0s0b0n0"
BOOT = Boot("http://k", "http://i", ["quiet"])
NODE = {"xname": XNAME, "nid": 1, "bootMac": "52:54:00:be:ef:01", "groups": ["compute", "gpu"]}


def recorded(method: str, path: str) -> Any:
    """The last recorded answer of boot-service to this request."""
    lines = (RECORDS / "02-every-call.jsonl").read_text().splitlines()
    wanted = {"service": "boot-service", "method": method, "path": path}
    found = [one for one in map(json.loads, lines) if wanted.items() <= one["request"].items()]
    return [one["answer"]["body"] for one in found if one["answer"]["status"] < 300][-1]


class Service:
    """Holds documents and answers as recorded. sent: what was written. odd: changes an answer to a write."""

    def __init__(
        self, *configurations: Any, odd: Callable[[httpx.Request], httpx.Response | None] | None = None
    ) -> None:
        self.configurations, self.nodes = list(configurations), recorded("GET", "/nodes")
        self.sent: list[tuple[str, str, Any]] = []
        self._odd = odd or (lambda request: None)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            asked = {"/bootconfigurations": self.configurations, "/nodes": self.nodes}
            return httpx.Response(200, text=json.dumps(asked[request.url.path]))
        body = json.loads(request.content) if request.content else None
        self.sent.append((request.method, request.url.path, body))
        if answer := self._odd(request):
            return answer
        if request.method == "POST":
            self.configurations.append(document("new", **body["spec"]))
        return httpx.Response(200, json=body)

    @property
    def client(self) -> BootService:
        services = Services("", "", "", boot_service="http://boot")
        return BootService(Http(services, transport=httpx.MockTransport(self), pause=0.001), seed="")


def document(uid: str, name: str = "gpu", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "name": name}, "spec": spec}


def test_the_recorded_node_boots_the_recorded_configuration_of_its_group() -> None:
    service = Service(recorded("POST", "/bootconfigurations"))
    assert service.client.boots() == {
        XNAME: Boot(
            "http://127.0.0.1:9000/vmlinuz",
            "http://127.0.0.1:9000/initrd.img",
            ["root=live:http://127.0.0.1:9000/rootfs.squashfs", "a=1&b=2"],
        )
    }


def test_the_recorded_escape_is_refused_with_what_to_do() -> None:
    assert "a=1&amp;b=2" in recorded("GET", "/bootscript?mac=52:54:00:be:ef:01")
    service = Service()
    with pytest.raises(SitewrightError, match=r"'a=1&b=2' holds one of .* nothing was written") as refused:
        service.client.set_boot("compute", [XNAME], Boot("http://k", "http://i", ["a=1&b=2"]))
    assert "%26" in refused.value.hint and "provisioner.bss" in refused.value.hint
    assert service.sent == []


def test_the_body_that_makes_a_configuration_has_the_recorded_shape() -> None:
    service = Service(recorded("POST", "/bootconfigurations"))
    assert service.client.set_boot("gpu", [XNAME], BOOT) == [XNAME]
    spec = {
        "hosts": [XNAME],
        "kernel": "http://k",
        "initrd": "http://i",
        "params": "quiet",
        "priority": PRIORITY,
    }
    assert service.sent == [("POST", "/bootconfigurations", {"metadata": {"name": "gpu"}, "spec": spec})]


def test_an_empty_service_answers_null_for_nothing() -> None:
    service = Service()
    service.configurations = service.nodes = None  # type: ignore[assignment]
    assert service.client.boots() == {}


OURS = {"kernel": "http://k", "initrd": "http://i", "params": "quiet", "priority": PRIORITY}


def test_a_configuration_that_somebody_removed_meanwhile_is_made_anew() -> None:
    gone = document("gone", hosts=["x9c0s0b0n0"], **OURS)
    service = Service(gone, odd=lambda request: httpx.Response(404) if request.method == "PUT" else None)
    service.client.set_boot("gpu", [XNAME], BOOT)
    assert [(method, path) for method, path, _ in service.sent] == [
        ("PUT", "/bootconfigurations/gone"),
        ("POST", "/bootconfigurations"),
    ]
    assert service.sent[-1][2]["spec"]["hosts"] == [XNAME, "x9c0s0b0n0"]


@pytest.mark.parametrize("more", [{"priority": 50}, {"groups": ["all"]}, {"nids": [9]}])
def test_one_of_that_name_that_is_for_others_too_is_not_added_to(more: dict[str, Any]) -> None:
    service = Service(document("theirs", **{"hosts": ["x9c0s0b0n0"], **OURS, **more}))
    service.client.set_boot("gpu", [XNAME], BOOT)
    assert [(method, path) for method, path, _ in service.sent] == [("POST", "/bootconfigurations")]


def test_what_is_not_as_it_was_written_is_an_error() -> None:
    """It said yes, and has something else."""
    service = Service(odd=lambda request: httpx.Response(201, json={}))
    with pytest.raises(SitewrightError, match=f"{XNAME}: the boot configuration that counts is none") as told:
        service.client.set_boot("gpu", [XNAME], BOOT)
    assert "run the same again" in told.value.hint


def test_a_node_in_two_configurations_that_differ_is_taken_for_undecided() -> None:
    """What an interrupted change leaves behind."""
    new, old = (
        document("new", hosts=[XNAME], **OURS),
        document("old", hosts=[XNAME], **{**OURS, "kernel": "http://o"}),
    )
    service = Service(old, new)
    assert service.client.boots() == {}
    with pytest.raises(
        SitewrightError, match=r"'gpu' \(new\), 'gpu' \(old\)"
    ):  # this service removes nothing
        service.client.set_boot("gpu", [XNAME], BOOT)
    assert [(method, path) for method, path, _ in service.sent] == [("DELETE", "/bootconfigurations/old")]


@pytest.mark.parametrize(
    ("spec", "points"),
    [
        ({"macs": ["52:54:00:BE:EF:01"]}, 100),
        ({"nids": [1]}, 75),
        ({"hosts": [XNAME]}, 50),
        ({"hosts": ["*"]}, 50),
        ({"hosts": ["x1000c0s0*"]}, 0),  # documented, and not done
        ({"groups": ["gpu"]}, 25),
        ({"groups": ["gpu", "compute", "other"]}, 50),
        ({"hosts": [XNAME], "macs": ["52:54:00:be:ef:01"], "nids": [1]}, 225),
        ({"hosts": ["x1000c0s0b0n1"], "macs": ["52:54:00:be:ef:02"], "nids": [2], "groups": ["x"]}, 0),
        ({}, 1),
    ],
)
def test_points_are_those_of_the_service(spec: dict[str, Any], points: int) -> None:
    assert Configuration(document("u", kernel="http://k", **spec)).points(NODE) == points


def test_a_node_that_the_service_does_not_know_has_its_name_only() -> None:
    one = Configuration(document("u", kernel="http://k", hosts=[XNAME]))
    assert Matching([one], []).best(XNAME) == [one]
    assert Matching([one], []).xnames == {XNAME}
