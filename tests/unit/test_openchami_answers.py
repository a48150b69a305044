"""What the engine is answered about resources of OpenCHAMI, without an engine and without services."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pulumi.provider.experimental import provider as protocol
from pulumi.provider.experimental.property_value import PropertyValue

from sitewright.errors import SitewrightError
from sitewright.provider.failures import NotDone
from sitewright.provider.openchami.handler import OpenChamiResources
from sitewright.provider.progress import NoLog
from sitewright.provider.values import UNKNOWN, plain, to_property
from sitewright.provisioning.openchami_http import Held

URN = "urn:pulumi:lab::sitewright::sitewright:modules:NodePool$sitewright:openchami:{}::gpu"
BOOT = {
    "environment": "lab",
    "group": "gpu",
    "nodes": ["x1c0s0b0n0"],
    "kernel": "http://k",
    "initrd": "http://i",
}
NODE = {"nid": 1, "mac": "02:00:00:00:00:01", "address": "10.0.0.1", "bmc": "x1c0s0b0"}
NODES = {
    "environment": "lab",
    "group": "gpu",
    "nodes": {"x1c0s0b0n0": {**NODE, "bmcAddress": "10.0.1.1", "bmcMac": "02:00:00:00:01:01"}},
}


class Services:
    """What is said of each call; an error is raised once."""

    answered = 0

    def __init__(self, *errors: SitewrightError) -> None:
        self.errors, self.told = list(errors), 0

    def set_boot(self, *_: object) -> list[str]:
        self.told += 1
        if self.errors:
            raise self.errors.pop(0)
        return ["x1c0s0b0n0"]

    def stop(self) -> None:
        self.errors = [SitewrightError("stopped")]


class Said(NoLog):
    def __init__(self) -> None:
        self.lines: list[str] = []

    async def status(self, urn: str, message: str) -> None:
        self.lines.append(message)


def handler(services: Services, log: NoLog | None = None) -> OpenChamiResources:
    return OpenChamiResources(log or NoLog(), lambda environment, check: services, pause=0)  # type: ignore[arg-type, return-value]


def properties(values: dict[str, Any]) -> dict[str, PropertyValue]:
    return {
        name: value if isinstance(value, PropertyValue) else to_property(value)
        for name, value in values.items()
    }


def failures(kind: str, **values: Any) -> dict[str, str]:
    request = protocol.CheckRequest(URN.format(kind), {}, properties(values), b"")
    found = asyncio.run(handler(Services()).check(request)).failures
    return {one.property: one.reason for one in found or []}


def create(services: Services, preview: bool = False, log: NoLog | None = None) -> protocol.CreateResponse:
    request = protocol.CreateRequest(URN.format("BootConfiguration"), properties(BOOT), 0, preview)
    return asyncio.run(handler(services, log).create(request))


def test_what_is_right_passes_and_what_is_not_known_yet_is_not_judged():
    assert failures("Nodes", **NODES) == {}
    assert failures("BootConfiguration", **BOOT | {"kernel": UNKNOWN, "arguments": UNKNOWN}) == {}


@pytest.mark.parametrize(
    ("kind", "values", "path", "reason"),
    [
        ("NodeGroup", {"environment": "lab", "label": "GPU"}, "label", "should match pattern"),
        ("NodeGroup", {"label": "gpu"}, "environment", "Field required"),
        ("NodeGroup", {"environment": "lab", "label": "gpu", "tag": "x"}, "tag", "not permitted"),
        ("BootConfiguration", BOOT | {"nodes": []}, "nodes", "at least 1 item"),
        ("BootConfiguration", BOOT | {"nodes": ["x1"]}, "nodes[0]", "'x1' is a Cabinet, a Node"),
        ("BootConfiguration", BOOT | {"kernel": ""}, "kernel", "at least 1 character"),
        ("BootConfiguration", BOOT | {"kernel": "", "initrd": UNKNOWN}, "kernel", "at least 1 character"),
        (
            "Nodes",
            NODES | {"nodes": {"x1c0s0b0n0": {**NODES["nodes"]["x1c0s0b0n0"], "nid": 0}}},  # type: ignore[index]
            "nodes.x1c0s0b0n0.nid",
            "greater than or equal to 1",
        ),
        ("Nodes", NODES | {"nodes": {"n1": NODE}}, "nodes.n1", "n1"),
        ("CloudInitGroup", {"environment": "lab", "name": "gpu"}, "cloudConfig", "Field required"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(kind: str, values: dict[str, Any], path: str, reason: str):
    found = failures(kind, **values)
    assert path in found and reason in found[path], found


def test_a_preview_tells_the_services_nothing():
    services = Services()
    assert create(services, preview=True).resource_id == ""
    assert services.told == 0


def test_it_waits_for_what_another_pool_gives_and_says_so():
    services, log = Services(Held("x1c0s0b0n0: still in pool cpu")), Said()
    assert create(services, log=log).resource_id == "lab/gpu"
    assert services.told == 2
    assert "waits: x1c0s0b0n0: still in pool cpu" in log.lines


def test_what_failed_is_known_and_put_right_by_the_next_update():
    with pytest.raises(NotDone, match="bss: 400") as failed:
        create(Services(SitewrightError("bss: 400")))
    state = failed.value.properties
    assert failed.value.identity == "lab/gpu" and plain(state["drift"]) == "bss: 400"
    request = protocol.DiffRequest(URN.format("BootConfiguration"), "lab/gpu", state, properties(BOOT), [])
    answer = asyncio.run(handler(Services()).diff(request))
    assert (answer.changes, answer.replaces) == (True, [])


def test_an_update_that_fails_keeps_what_was_so_before():
    urn = URN.format("BootConfiguration")
    old, new = properties(BOOT), properties(BOOT | {"kernel": "http://other"})
    request = protocol.UpdateRequest(urn, "lab/gpu", old, new, 0, [], False)
    with pytest.raises(NotDone) as failed:
        asyncio.run(handler(Services(SitewrightError("no answer"))).update(request))
    assert plain(failed.value.properties["kernel"]) == "http://k"


@pytest.mark.parametrize(("name", "value"), [("environment", "tds"), ("group", "cpu")])
def test_another_place_or_name_is_another_resource(name: str, value: str):
    urn = URN.format("BootConfiguration")
    request = protocol.DiffRequest(urn, "lab/gpu", properties(BOOT), properties(BOOT | {name: value}), [])
    answer = asyncio.run(handler(Services()).diff(request))
    assert answer.replaces == [name] and answer.delete_before_replace


def test_after_cancel_nothing_is_told():
    services = Services()
    resources = handler(services)

    async def cancelled() -> None:
        await resources.cancel()
        await resources.create(
            protocol.CreateRequest(URN.format("BootConfiguration"), properties(BOOT), 0, False)
        )

    with pytest.raises(NotDone, match="cancelled before it began"):
        asyncio.run(cancelled())
    assert services.told == 0
