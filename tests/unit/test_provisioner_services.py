"""What the recorded exchanges do not cover of the lab's provisioner, by plain calls without a network."""

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lab.plan import LabPlan
from lab.provisioner import boot_service, boot_service_copies, bss, cloud_init, smd
from lab.provisioner.__main__ import applications
from lab.provisioner.store import Store
from sitewright.site import Site

NODES = ("x1000c0s0b0n0", "x1000c0s0b1n0")
BOOT = {"kernel": "http://i/k", "initrd": "http://i/rd", "params": "quiet"}


def client(app: FastAPI) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


class Services:
    def __init__(self, file: Path | str = ":memory:") -> None:
        self.now = 0.0
        self.store = Store(file)
        self.smd = client(smd.build(self.store))
        self.bss = client(bss.build(self.store, "http://bss", "http://seed:27777"))
        self.cloud_init = client(cloud_init.build(self.store, "http://seed:27777", 60, lambda: self.now))
        self.boot_service = client(boot_service.build(self.store))

    def declare(self) -> None:
        """Two nodes with their BMCs, known to BSS."""
        components = [{"ID": x, "State": "Unknown", "NID": n} for n, x in enumerate(NODES, 1)]
        assert self.smd.post("/hsm/v2/State/Components", json={"Components": components}).status_code == 204
        for number, node in enumerate(NODES, 1):
            nic = {"mac": f"02:00:00:00:00:0{number}", "ip": f"10.77.0.6{number}"}
            system = {"uri": "/redfish/v1/Systems/Node0", "name": node, "ethernet_interfaces": [nic]}
            bmc = {"ID": node.removesuffix("n0"), "SchemaVersion": 1, "Systems": [system]}
            assert self.smd.post("/hsm/v2/Inventory/RedfishEndpoints", json=bmc).status_code == 201
        assert self.bss.post("/boot/v1/hosts", json={}).status_code == 204

    def put_boot(self, **parts: Any) -> None:
        assert self.bss.put("/boot/v1/bootparameters", json=BOOT | parts).status_code == 200

    def script(self, query: str) -> str:
        return self.bss.get(f"/boot/v1/bootscript?{query}").text


@pytest.fixture
def services() -> Services:
    made = Services()
    made.declare()
    return made


@pytest.mark.parametrize(
    "line",
    [
        "ro root=live:http://10.1.0.1:9000/img/rootfs ip=dhcp ds=nocloud-net;s=http://10.1.0.1:8081/cloud-init",
        """x.sources='["url:http://10.1.0.1/c.yml"]' quiet""",
    ],
)
def test_kernel_parameters_are_kept_character_for_character(services: Services, line: str) -> None:
    """A `;` must survive, and so must quotes: the seed address of cloud-init follows one."""
    services.put_boot(hosts=[NODES[0]], params=line)
    (stored,) = services.bss.get(f"/boot/v1/bootparameters?name={NODES[0]}").json()
    assert stored["params"] == line
    assert f"initrd=initrd {line} xname=" in services.script(f"name={NODES[0]}")


def test_the_seed_address_ends_in_a_slash(services: Services) -> None:
    services.put_boot(hosts=[NODES[0]])
    assert " ds=nocloud-net;s=http://seed:27777/ ||" in services.script(f"name={NODES[0]}")


def test_parameters_that_end_in_the_letters_initrd_crash_as_they_do_in_the_real_service(
    services: Services,
) -> None:
    services.put_boot(hosts=[NODES[0]], params="ds=x a=1 my-initrd bss_referral_token= xname= nid=")
    assert "my- " in services.script(f"name={NODES[0]}")
    services.put_boot(hosts=[NODES[0]], params="ds=x bss_referral_token= xname= nid= my-initrd")
    assert services.bss.get(f"/boot/v1/bootscript?name={NODES[0]}").status_code == 500


def test_a_node_gets_its_own_parameters_before_those_of_its_role_before_the_default(
    services: Services,
) -> None:
    for host in ("Default", "Compute", NODES[0]):
        services.put_boot(hosts=[host], kernel=f"http://i/{host}")
    assert f"http://i/{NODES[0]} " in services.script(f"name={NODES[0]}")
    assert "http://i/Compute " in services.script(f"name={NODES[1]}")
    services.bss.request("DELETE", "/boot/v1/bootparameters", json={"hosts": ["Compute"]})
    assert "http://i/Default " in services.script(f"name={NODES[1]}")


def test_post_does_not_overwrite_a_node_that_has_parameters(services: Services) -> None:
    body = BOOT | {"macs": ["02:00:00:00:00:01"]}
    assert services.bss.post("/boot/v1/bootparameters", json=body).status_code == 201
    again = services.bss.post("/boot/v1/bootparameters", json=body)
    assert again.status_code == 400
    assert "Already exists" in again.json()["detail"]
    assert services.bss.get("/boot/v1/bootparameters?mac=02:00:00:00:00:01").json()[0]["hosts"] == [NODES[0]]


def test_bss_knows_a_new_node_only_after_a_refresh(services: Services) -> None:
    component = {"ID": "x1000c0s1b0n0", "State": "On", "NID": 9}
    services.smd.post("/hsm/v2/State/Components", json={"Components": [component]})
    assert services.bss.get("/boot/v1/hosts?nid=9").status_code == 404
    services.bss.post("/boot/v1/hosts", json={})
    assert services.bss.get("/boot/v1/hosts?nid=9").json()[0]["ID"] == "x1000c0s1b0n0"


def test_a_new_address_is_known_to_cloud_init_after_a_minute(services: Services) -> None:
    asked = {"x-forwarded-for": "10.77.0.61"}
    assert services.cloud_init.get("/meta-data", headers=asked).status_code == 422
    services.now = 59.9
    assert services.cloud_init.get("/meta-data", headers=asked).status_code == 422
    services.now = 60
    assert services.cloud_init.get("/meta-data", headers=asked).status_code == 200


def test_a_group_file_in_base64_is_served_decoded(services: Services) -> None:
    services.smd.post("/hsm/v2/groups", json={"label": "gpu", "members": {"ids": [NODES[0]]}})
    file = {"content": "I2Nsb3VkLWNvbmZpZwo=", "encoding": "base64"}
    services.cloud_init.put("/admin/groups/gpu", json={"name": "gpu", "file": file})
    services.now = 60
    assert services.cloud_init.get(f"/admin/impersonation/{NODES[0]}/gpu.yaml").text == "#cloud-config\n"


def test_components_are_not_overwritten_without_force(services: Services) -> None:
    changed = [{"ID": NODES[0], "State": "Off", "NID": 77}]
    services.smd.post("/hsm/v2/State/Components", json={"Components": changed})
    assert services.smd.get(f"/hsm/v2/State/Components/{NODES[0]}").json()["State"] == "On"
    services.smd.post("/hsm/v2/State/Components", json={"Components": changed, "Force": True})
    component = services.smd.get(f"/hsm/v2/State/Components/{NODES[0]}").json()
    assert (component["State"], component["NID"]) == ("Off", 1), "a NID is not changed by Force either"
    services.smd.patch(f"/hsm/v2/State/Components/{NODES[0]}/NID", json={"NID": 77})
    assert services.smd.get(f"/hsm/v2/State/Components/{NODES[0]}").json()["NID"] == 77


def test_xnames_are_stored_in_one_spelling(services: Services) -> None:
    odd = [{"ID": "X1000C0S03B00N01", "State": "On"}]
    services.smd.post("/hsm/v2/State/Components", json={"Components": odd})
    assert services.smd.get("/hsm/v2/State/Components/x1000c0s3b0n1").json()["ID"] == "x1000c0s3b0n1"


def test_the_bmc_of_a_node_declared_again_by_put_changes_nothing_else(services: Services) -> None:
    before = services.smd.get("/hsm/v2/Inventory/EthernetInterfaces").json()
    body = services.smd.get("/hsm/v2/Inventory/RedfishEndpoints/x1000c0s0b0").json()
    assert services.smd.put("/hsm/v2/Inventory/RedfishEndpoints/x1000c0s0b0", json=body).status_code == 200
    assert services.smd.get("/hsm/v2/Inventory/EthernetInterfaces").json() == before
    assert services.smd.put("/hsm/v2/Inventory/RedfishEndpoints/x9c0s0b0", json=body).status_code == 404


def test_a_failed_request_changes_nothing(services: Services) -> None:
    before = services.smd.get("/hsm/v2/State/Components").json()
    mixed = [{"ID": "x1000c0s5b0n0", "State": "On"}, {"ID": "nonsense", "State": "On"}]
    assert services.smd.post("/hsm/v2/State/Components", json={"Components": mixed}).status_code == 400
    assert services.smd.get("/hsm/v2/State/Components").json() == before


def test_what_was_declared_outlives_the_process(tmp_path: Path) -> None:
    first = Services(tmp_path / "provisioner.db")
    first.declare()
    first.put_boot(hosts=[NODES[0]])
    first.store.close()
    second = Services(tmp_path / "provisioner.db")
    assert "http://i/k" in second.script("mac=02:00:00:00:00:01")


def test_boot_service_prefers_the_better_match() -> None:
    services = Services()
    node = {"xname": NODES[0], "bootMac": "02:00:00:00:00:01", "nid": 1, "groups": ["gpu"]}
    services.boot_service.post("/nodes", json={"metadata": {"name": "n"}, "spec": node})
    for name, targets in (("all", {}), ("group", {"groups": ["gpu"]}), ("host", {"hosts": [NODES[0]]})):
        spec = {"kernel": f"http://i/{name}"} | targets
        services.boot_service.post("/bootconfigurations", json={"metadata": {"name": name}, "spec": spec})
        assert f"Configuration: {name}\n" in services.boot_service.get(f"/bootscript?host={NODES[0]}").text


def test_boot_service_copies_nodes_from_smd_when_its_copies_are_old(services: Services) -> None:
    copying = boot_service_copies.keep(
        boot_service.build(services.store), services.store, 60, lambda: services.now
    )
    boots = client(copying)
    boots.post("/bootconfigurations", json={"spec": {"hosts": [NODES[0]], "kernel": "http://i/k"}})
    assert "kernel http://i/k" in boots.get("/bootscript?mac=02:00:00:00:00:01").text
    component = {"ID": "x1000c0s1b0n0", "State": "On", "Role": "Compute", "NID": 9}
    services.smd.post("/hsm/v2/State/Components", json={"Components": [component]})
    nic = {"MACAddress": "02:00:00:00:00:09", "ComponentID": "x1000c0s1b0n0"}
    services.smd.post("/hsm/v2/Inventory/EthernetInterfaces", json=nic)
    services.now = 59.9
    assert "node not found" in boots.get("/bootscript?mac=02:00:00:00:00:09").text
    services.now = 60
    assert "no configuration available" in boots.get("/bootscript?mac=02:00:00:00:00:09").text
    assert len(boots.get("/nodes").json()) == 3


@pytest.mark.parametrize(
    ("given", "ports"),
    [
        ({"bss": "http://127.0.0.1:27778"}, {27779, 27778, 27777, 27776, 28007}),
        ({"boot_service": "http://127.0.0.1:8080"}, {27779, 8080, 27777, 28007}),
    ],
)
def test_the_lab_runs_what_gives_out_boot_scripts_where_the_site_says(
    given: dict[str, str], ports: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITEWRIGHT_LAB_STATE_DIR", str(tmp_path))
    provisioner = {"smd": "http://127.0.0.1:27779", "cloud_init": "http://127.0.0.1:27777", **given}
    site = Site.model_validate(
        {
            "name": "lab",
            "networks": [{"name": "nodes", "cidr": "10.1.0.0/24"}],
            "registry": {"endpoint": "http://10.1.0.1:5000"},
            "provisioner": provisioner,
            "lab": {},
        }
    )
    there = applications(site)
    assert {port for _, port in there} == ports
    assert set(LabPlan(site).provisioner_addresses) <= there.keys()
