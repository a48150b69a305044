"""Pools are declared to the provisioner, compared with it, and forgotten: our client and the lab's services."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from sitewright.errors import SitewrightError
from sitewright.provisioning.openchami import EXCLUSIVE, Boot
from sitewright.provisioning.openchami_http import Held, Services
from sitewright.site import Node
from tests.contracts.pools import Pool, PoolClient
from tests.contracts.test_provisioner import Provisioner

BOOT = Boot(
    "http://10.77.0.1/vmlinuz", "http://10.77.0.1/initrd", ["root=live:http://10.77.0.1/root", "quiet"]
)


def node(blade: int) -> dict[str, Any]:
    return asdict(
        Node(
            xname=f"x1000c0s0b{blade}n0",
            nid=blade + 1,
            pool="gpu",
            cluster="svc",
            network="nodes",
            address=f"10.77.0.{64 + blade}",
            prefix_length=24,
            gateway="10.77.0.1",
            mac=f"02:00:00:00:00:0{blade}",
            bmc=f"x1000c0s0b{blade}",
            bmc_address=f"10.77.0.{160 + blade}",
            bmc_mac=f"02:00:00:00:01:0{blade}",
            cpus=2,
            memory=6 << 30,
            gpus=0,
            labels={},
            taints=[],
        )
    )


GPU = Pool("gpu", "svc", [node(0), node(1)], BOOT, "#cloud-config\n")
PATHS = {
    "smd": (
        "/hsm/v2/State/Components",
        "/hsm/v2/Inventory/RedfishEndpoints",
        "/hsm/v2/Inventory/EthernetInterfaces",
        "/hsm/v2/groups",
    ),
    "bss": ("/boot/v1/bootparameters",),
    "cloud-init": ("/admin/groups", "/admin/cluster-defaults"),
}


class Site:
    """The services, and a client of ours. `send` is what somebody does by hand."""

    def __init__(self, provisioner: Provisioner) -> None:
        self._urls = provisioner.urls
        self.services = Services(self._urls["smd"], self._urls["bss"], self._urls["cloud-init"])
        self.write, self.ask = PoolClient(self.services), PoolClient(self.services, check=True)

    def send(self, service: str, method: str, path: str, body: object = None) -> Any:
        answer = httpx.request(method, self._urls[service] + path, json=body, trust_env=False)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def everything(self) -> dict[str, Any]:
        return {path: self.send(service, "GET", path) for service, paths in PATHS.items() for path in paths}

    def script(self, xname: str) -> str:
        answer = httpx.get(
            f"{self._urls['bss']}/boot/v1/bootscript",
            params={"name": xname, "arch": "x86_64"},
            trust_env=False,
        )
        return answer.text


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Provisioner(tmp_path / "provisioner.db") as running:
        yield Site(running)


def test_a_declared_pool_boots_and_declaring_it_again_finds_no_difference(site: Site) -> None:
    assert len(site.write.declare(GPU)) == 6
    assert "root=live:http://10.77.0.1/root quiet" in site.script("x1000c0s0b1n0")
    before = site.everything()
    assert site.write.declare(GPU) == site.ask.declare(GPU) == []
    assert site.everything() == before


def test_what_the_services_know_of_a_node_is_told_by_its_name(site: Site) -> None:
    assert site.ask.known() == {}
    site.write.declare(GPU)
    site.send("smd", "DELETE", "/hsm/v2/groups/gpu/members/x1000c0s0b1n0")
    first, second = (site.ask.known()[one["xname"]] for one in GPU.nodes)
    assert (first.pool, first.kernel) == ("gpu", "http://10.77.0.1/vmlinuz")
    assert (second.pool, second.kernel) == ("", "http://10.77.0.1/vmlinuz")


def test_a_check_names_all_that_is_missing_and_writes_nothing(site: Site) -> None:
    before = site.everything()
    assert site.ask.declare(GPU) == [
        "group gpu",
        "cloud-init group gpu",
        "components of x1000c0s0b[0-1]n0",
        "Redfish endpoints of x1000c0s0b[0-1]n0",
        "group gpu of x1000c0s0b[0-1]n0",
        "boot parameters of x1000c0s0b[0-1]n0",
    ]
    assert site.ask.set_defaults("http://10.77.0.1:27777")
    assert site.everything() == before


ByHand = Callable[[Site], object]
CHANGES: dict[str, tuple[ByHand, list[str]]] = {
    "component": (
        lambda site: site.send("smd", "DELETE", "/hsm/v2/State/Components/x1000c0s0b1n0"),
        ["components of x1000c0s0b1n0", "group gpu of x1000c0s0b1n0"],
    ),
    "NID": (
        lambda site: site.send(
            "smd",
            "PATCH",
            "/hsm/v2/State/Components/BulkNID",
            {"Components": [{"ID": "x1000c0s0b1n0", "NID": 9}]},
        ),
        ["components of x1000c0s0b1n0"],
    ),
    "Redfish endpoint": (
        lambda site: site.send("smd", "DELETE", "/hsm/v2/Inventory/RedfishEndpoints/x1000c0s0b1"),
        ["Redfish endpoints of x1000c0s0b1n0"],
    ),
    "interface": (
        lambda site: site.send("smd", "DELETE", "/hsm/v2/Inventory/EthernetInterfaces/020000000001"),
        ["Redfish endpoints of x1000c0s0b1n0"],
    ),
    "group": (
        lambda site: site.send("smd", "DELETE", "/hsm/v2/groups/gpu"),
        ["group gpu", "group gpu of x1000c0s0b[0-1]n0"],
    ),
    "member": (
        lambda site: site.send("smd", "DELETE", "/hsm/v2/groups/gpu/members/x1000c0s0b0n0"),
        ["group gpu of x1000c0s0b0n0"],
    ),
    "boot parameters": (
        lambda site: site.send("bss", "DELETE", "/boot/v1/bootparameters", {"hosts": ["x1000c0s0b1n0"]}),
        ["boot parameters of x1000c0s0b1n0"],
    ),
    "kernel arguments": (
        lambda site: site.send(
            "bss", "PATCH", "/boot/v1/bootparameters", {"hosts": ["x1000c0s0b0n0"], "params": "debug"}
        ),
        ["boot parameters of x1000c0s0b0n0"],
    ),
    "image": (
        lambda site: site.send(
            "bss", "PATCH", "/boot/v1/bootparameters", {"hosts": ["x1000c0s0b0n0"], "kernel": "http://other"}
        ),
        ["boot parameters of x1000c0s0b0n0"],
    ),
    "cloud-config": (
        lambda site: site.send(
            "cloud-init", "PUT", "/admin/groups/gpu", {"name": "gpu", "file": {"content": "x"}}
        ),
        ["cloud-init group gpu"],
    ),
    "cloud-init group": (
        lambda site: site.send("cloud-init", "DELETE", "/admin/groups/gpu"),
        ["cloud-init group gpu"],
    ),
}


@pytest.mark.parametrize(("by_hand", "differences"), CHANGES.values(), ids=CHANGES)
def test_a_change_by_hand_is_found_and_put_back(site: Site, by_hand: ByHand, differences: list[str]) -> None:
    site.write.declare(GPU)
    by_hand(site)
    assert site.ask.declare(GPU) == site.ask.declare(GPU) == differences
    assert site.write.declare(GPU) == differences
    assert site.ask.declare(GPU) == []
    assert "root=live:http://10.77.0.1/root quiet" in site.script("x1000c0s0b1n0")


def test_only_boot_parameters_that_differ_are_written(site: Site) -> None:
    site.write.declare(replace(GPU, nodes=[node(0)]))
    before = site.script("x1000c0s0b0n0")
    site.write.declare(GPU)
    # Each write of parameters makes a new token.
    assert site.script("x1000c0s0b0n0") == before


def test_a_node_that_leaves_takes_nothing_of_the_others_with_it(site: Site) -> None:
    site.write.declare(GPU)
    site.write.release([node(1)])
    assert site.ask.declare(replace(GPU, nodes=[node(0)])) == []
    assert "x1000c0s0b1" not in str(site.everything())
    site.write.release([node(1)])  # what was interrupted is done again


def test_two_nodes_of_one_bmc_are_declared_with_it_and_leave_one_by_one(site: Site) -> None:
    second = {
        **node(1),
        "bmc": node(0)["bmc"],
        "bmc_address": node(0)["bmc_address"],
        "xname": "x1000c0s0b0n1",
    }
    both = replace(GPU, nodes=[node(0), second])
    site.write.declare(both)
    assert site.ask.declare(both) == []
    assert "root=live" in site.script("x1000c0s0b0n0") and "root=live" in site.script("x1000c0s0b0n1")
    site.write.release([second])
    assert site.ask.declare(replace(GPU, nodes=[node(0)])) == []
    assert "x1000c0s0b0n1" not in str(site.send("smd", "GET", "/hsm/v2/State/Components"))


def sharing(number: int) -> dict[str, Any]:
    """A node of the first BMC."""
    first = node(0)
    return {
        **node(number),
        "xname": f"{first['bmc']}n{number}",
        "bmc": first["bmc"],
        "bmc_address": first["bmc_address"],
        "bmc_mac": first["bmc_mac"],
    }


def test_pools_that_share_a_bmc_leave_each_other_as_they_are(site: Site) -> None:
    gpu = replace(GPU, nodes=[sharing(0)])
    cpu = Pool("cpu", "svc", [sharing(1)], BOOT, "#cloud-config\n")
    site.write.declare(gpu)
    assert site.write.declare(cpu)
    moved = replace(gpu, nodes=[{**sharing(0), "address": "10.77.0.99"}])
    assert site.write.declare(moved) == ["Redfish endpoints of x1000c0s0b0n0"]
    assert site.ask.declare(moved) == site.ask.declare(cpu) == []
    systems = site.send("smd", "GET", "/hsm/v2/Inventory/ComponentEndpoints")["ComponentEndpoints"]
    assert {one["ID"]: one["RedfishSystemInfo"]["EthernetNICInfo"][0]["MACAddress"] for one in systems} == {
        "x1000c0s0b0n0": sharing(0)["mac"],
        "x1000c0s0b0n1": sharing(1)["mac"],
    }


def test_a_node_is_refused_while_one_before_it_on_its_bmc_is_unknown(site: Site) -> None:
    second = Pool("cpu", "svc", [sharing(1)], BOOT, "#cloud-config\n")
    refused = r"not done for x1000c0s0b0, .*x1000c0s0b0n0: not declared yet.*so x1000c0s0b0n1 would get"
    with pytest.raises(SitewrightError, match=refused):
        site.write.declare(second)
    assert site.send("smd", "GET", "/hsm/v2/Inventory/EthernetInterfaces") == []
    site.write.declare(replace(GPU, nodes=[sharing(0)]))
    site.write.declare(second)
    assert site.ask.declare(second) == []


class Counting(httpx.HTTPTransport):
    """asked: method and path of every request."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        return super().handle_request(request)


def test_requests_do_not_grow_with_the_nodes_but_for_one_for_each_new_bmc(site: Site) -> None:
    many = [
        {
            **node(0),
            "xname": f"x1000c0s{slot}b{place}n0",
            "bmc": f"x1000c0s{slot}b{place}",
            "nid": 8 * slot + place + 1,
            "mac": f"02:00:00:00:{slot:02x}:{place:02x}",
            "address": f"10.77.{slot}.{place + 1}",
        }
        for slot in range(8)
        for place in range(8)
    ]
    counting = Counting()
    client = PoolClient(site.services, transport=counting)
    for nodes, new in ((many[:63], 63), (many[:63], 0), (many, 1)):
        counting.asked.clear()
        client.declare(replace(GPU, nodes=nodes))
        endpoints = counting.asked.count("POST /hsm/v2/Inventory/RedfishEndpoints")
        assert (endpoints, len(counting.asked) - endpoints <= 20) == (new, True), counting.asked


def test_members_come_one_by_one_where_the_service_takes_them_so_only(site: Site) -> None:
    """As CSM's does."""

    class OneByOne(Counting):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "PUT" and request.url.path.endswith("/members"):
                return httpx.Response(405)
            return super().handle_request(request)

    counting = OneByOne()
    PoolClient(site.services, transport=counting).declare(GPU)
    assert counting.asked.count("POST /hsm/v2/groups/gpu/members") == 2
    assert site.ask.declare(GPU) == []


def test_at_the_end_of_a_pool_nothing_of_it_is_left(site: Site) -> None:
    empty = site.everything()
    site.write.declare(GPU)
    site.write.end(GPU)
    after = site.everything()
    assert {path for path in empty if after[path] != empty[path]} == {"/boot/v1/bootparameters"}
    assert "x1000" not in str(after)
    site.write.end(GPU)  # what was interrupted is done again


def test_a_group_with_members_is_neither_forgotten_nor_taken_over(site: Site) -> None:
    site.write.declare(GPU)
    before = site.everything()
    with pytest.raises(Held, match=r"x1000c0s0b.*n0: still in pool gpu of cluster svc"):
        site.write.forget_group("gpu")
    assert site.everything() == before


def test_a_node_that_left_stays_in_its_group_until_it_is_released(site: Site) -> None:
    site.write.declare(GPU)
    smaller = replace(GPU, nodes=[node(0)])
    assert site.write.declare(smaller) == site.ask.declare(smaller) == []
    assert site.send("smd", "GET", "/hsm/v2/groups/gpu")["members"]["ids"] == [
        "x1000c0s0b0n0",
        "x1000c0s0b1n0",
    ]


@pytest.mark.parametrize("other", [Pool("cpu", "svc", [node(1)], BOOT, ""), replace(GPU, cluster="tds")])
def test_a_node_of_one_pool_is_refused_to_another_until_it_is_released(site: Site, other: Pool) -> None:
    site.write.declare(GPU)
    before = site.everything()
    with pytest.raises(Held, match=r"x1000c0s0b.*n0: still in pool gpu of cluster svc"):
        site.write.declare(other)
    after = site.everything()
    nodes = ("/hsm/v2/State/Components", "/boot/v1/bootparameters", "/hsm/v2/Inventory/EthernetInterfaces")
    assert [after[path] for path in nodes] == [before[path] for path in nodes]
    site.write.release(other.nodes)
    assert site.write.declare(other)
    assert site.ask.declare(other) == []


def test_a_group_that_somebody_else_made_does_not_hold_its_members(site: Site) -> None:
    site.write.declare(GPU)
    everyone = {"label": "all", "members": {"ids": ["x1000c0s0b0n0", "x1000c0s0b1n0"]}}
    site.send("smd", "POST", "/hsm/v2/groups", everyone)
    assert site.ask.declare(GPU) == []


def test_pools_of_two_clusters_do_not_overwrite_each_other(site: Site) -> None:
    tds = Pool("tds", "tds", [node(1)], BOOT, "#cloud-config\n")
    gpu = replace(GPU, nodes=[node(0)])
    site.write.set_defaults("http://10.77.0.1:27777")
    for pool in (gpu, tds):
        site.write.declare(pool)
    assert (
        site.ask.declare(gpu)
        == site.ask.declare(tds)
        == site.ask.set_defaults("http://10.77.0.1:27777")
        == []
    )
    groups = site.send("cloud-init", "GET", "/admin/groups")
    assert {name: group["meta-data"] for name, group in groups.items()} == {
        "gpu": {"cluster-name": "svc"},
        "tds": {"cluster-name": "tds"},
    }


def test_defaults_changed_by_hand_are_put_back_and_other_keys_stay(site: Site) -> None:
    site.write.set_defaults("http://10.77.0.1:27777")
    site.send("cloud-init", "POST", "/admin/cluster-defaults", {"base-url": "http://other", "region": "alps"})
    assert site.ask.set_defaults("http://10.77.0.1:27777") == ["base-url of the cloud-init server"]
    site.write.set_defaults("http://10.77.0.1:27777")
    assert site.send("cloud-init", "GET", "/admin/cluster-defaults") == {
        "base-url": "http://10.77.0.1:27777",
        "cloud_provider": "openchami",
        "region": "alps",
    }


def test_a_node_has_one_owner_and_who_had_it_before_forgets_nothing_of_it(site: Site) -> None:
    site.write.declare(GPU)
    site.send("smd", "POST", "/hsm/v2/groups", {"label": "slurm", "exclusiveGroup": EXCLUSIVE})
    site.write.hand_over("x1000c0s0b1n0", "slurm")
    assert site.ask.owners() == {"x1000c0s0b0n0": "gpu", "x1000c0s0b1n0": "slurm"}
    site.write.hand_over("x1000c0s0b1n0", "slurm")  # done again
    with pytest.raises(Held, match="x1000c0s0b1n0: still in slurm"):
        site.write.declare(GPU)
    site.write.release(GPU.nodes)
    assert site.ask.owners() == {"x1000c0s0b1n0": "slurm"}
    assert "root=live" in site.script("x1000c0s0b1n0")


@pytest.mark.parametrize("exclusive", ["", "theirs"])
def test_a_group_that_lets_a_node_have_another_owner_cannot_own_it(site: Site, exclusive: str) -> None:
    site.send("smd", "POST", "/hsm/v2/groups", {"label": "slurm", "exclusiveGroup": exclusive})
    with pytest.raises(SitewrightError, match="group slurm: its exclusiveGroup is"):
        site.ask.require_owner("slurm")
    with pytest.raises(SitewrightError, match="group pbs: there is no such group in SMD"):
        site.ask.require_owner("pbs")
