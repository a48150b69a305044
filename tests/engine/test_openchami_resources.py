"""OpenCHAMI as resources, under the real engine, with the lab's provisioner."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sitewright.provisioning.openchami import OpenChami
from sitewright.provisioning.openchami_http import Services
from tests.contracts.pools import Pool, publish
from tests.contracts.test_openchami import GPU, Site, node
from tests.contracts.test_provisioner import Provisioner
from tests.engine.playbook_project import PLAYBOOK_RUNS, Project, interrupt, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

REPOSITORY = Path(__file__).parents[2]
CLOUD_INIT_URL = "http://10.77.0.1:27777"
SECOND = "x1000c0s0b1n0"
PROGRAM = """
import json, pathlib
import pulumi
from sitewright.provider.openchami.resources import BootConfiguration, CloudInitGroup, NodeGroup, Nodes

for name, pool in json.loads(pathlib.Path("../pools.json").read_text()).items():
    of = lambda *before: pulumi.ResourceOptions(depends_on=before)
    group = NodeGroup(f"{name}-group", "lab", name, pool["description"], "sitewright-pool")
    cloud_init = CloudInitGroup(f"{name}-cloud-init", "lab", name, pool["cloud_config"], meta_data={"a": "b"})
    nodes = Nodes(f"{name}-nodes", "lab", name, pool["nodes"], of(group, cloud_init))
    xnames = list(pool["nodes"])
    BootConfiguration(f"{name}-boot", "lab", name, xnames, pool["kernel"], "http://i", ["quiet"], of(nodes))
"""
WORDS = {"bmcAddress": "bmc_address", "bmcMac": "bmc_mac"}
UNCHANGED = dict.fromkeys(("gpu-group", "gpu-cloud-init", "gpu-nodes", "gpu-boot"), "same")


def said(pool: Pool) -> dict[str, Any]:
    return {
        "description": pool.group.description,
        "cloud_config": pool.cloud_config,
        "kernel": pool.boot.kernel_url,
        "nodes": {
            one["xname"]: {key: one[WORDS.get(key, key)] for key in ("nid", "mac", "address", "bmc", *WORDS)}
            for one in pool.nodes
        },
    }


class Declared(Site):
    """A stack that declares pools, and the site's services."""

    def __init__(
        self,
        folder: Path,
        provisioner: Provisioner,
        change: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        super().__init__(provisioner)
        self.urls, self.project = provisioner.urls, Project(folder)
        document = yaml.safe_load((REPOSITORY / "environments/lab.yaml").read_text())
        publish(document, provisioner.urls)
        change(document)
        self.project.write("environments/lab.yaml", yaml.safe_dump(document))
        self.project.write("stacks/__main__.py", PROGRAM)

    def has(self, *pools: Pool) -> None:
        self.project.write("pools.json", json.dumps({pool.name: said(pool) for pool in pools}))

    def refresh(self) -> str:
        return self.project.pulumi("refresh", "--yes", "--skip-preview", "--stack", "lab")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Declared]:
    with Provisioner(tmp_path / "provisioner.db") as provisioner:
        folder = tmp_path / "site"
        folder.mkdir()
        yield Declared(folder, provisioner)


def test_a_pool_is_made_found_unchanged_changed_by_name_and_taken_away(site: Declared) -> None:
    empty = site.everything()
    site.has(GPU)
    assert site.project.operations() == dict.fromkeys(UNCHANGED, "create")
    assert site.everything() == empty, "a preview writes nothing"
    site.project.up()
    assert "quiet" in site.script(SECOND)
    assert site.project.operations() == UNCHANGED

    before = site.script("x1000c0s0b0n0")
    site.has(replace(GPU, nodes=[node(0), {**node(1), "mac": "02:00:00:00:00:99"}]))
    step = site.project.preview()["gpu-nodes"]
    assert set(step["detailedDiff"]) == {f"nodes.{SECOND}.mac"}
    site.project.up()
    assert "mac=02:00:00:00:00:99" in site.script(SECOND)
    assert site.script("x1000c0s0b0n0") == before

    site.project.pulumi("destroy", "--yes", "--skip-preview", "--stack", "lab")
    assert "x1000" not in str(after := site.everything())
    assert {path for path in empty if after[path] != empty[path]} == {"/boot/v1/bootparameters"}


def test_a_refresh_names_what_was_changed_by_hand_and_the_update_puts_it_back(site: Declared) -> None:
    site.has(GPU)
    site.project.up()
    before = site.everything()
    assert "drift" not in site.refresh()
    assert site.everything() == before

    site.send("bss", "DELETE", "/boot/v1/bootparameters", {"hosts": [SECOND]})
    site.send("smd", "DELETE", f"/hsm/v2/groups/gpu/members/{SECOND}")
    changed, told = site.everything(), site.refresh()
    assert f"drift: boot parameters of {SECOND}; the next `pulumi up` puts it back" in told
    assert f"drift: group gpu of {SECOND}" in told
    assert site.everything() == changed
    assert site.project.operations() == {**UNCHANGED, "gpu-nodes": "update", "gpu-boot": "update"}
    site.project.up()
    assert site.everything() == before
    assert "drift" not in site.refresh()


def test_what_was_deleted_by_hand_is_made_anew_after_a_refresh(site: Declared) -> None:
    site.has(GPU)
    site.project.up()
    before = site.everything()
    site.send("smd", "DELETE", "/hsm/v2/groups/gpu")
    site.send("cloud-init", "DELETE", "/admin/groups/gpu")
    site.refresh()
    planned = {"gpu-group": "create", "gpu-cloud-init": "create", "gpu-nodes": "update"}
    assert site.project.operations() == {**UNCHANGED, **planned}
    site.project.up()
    assert site.everything() == before


def test_what_is_there_is_imported_and_then_nothing_is_to_do(site: Declared) -> None:
    site.write.declare(GPU)
    before = site.everything()
    site.has(GPU)
    for kind, name in (
        ("NodeGroup", "gpu-group"),
        ("CloudInitGroup", "gpu-cloud-init"),
        ("Nodes", "gpu-nodes"),
        ("BootConfiguration", "gpu-boot"),
    ):
        token = f"sitewright:openchami:{kind}"
        words = ["import", token, name, "lab/gpu", "--yes", "--skip-preview", "--protect=false"]
        site.project.pulumi(*words, "--generate-code=false", "--stack", "lab")
    assert site.everything() == before
    state = site.project.state()
    assert state["gpu-nodes"]["nodes"] == said(GPU)["nodes"]
    assert state["gpu-boot"]["nodes"] == ["x1000c0s0b0n0", SECOND]
    site.has()
    refused = ["import", "sitewright:openchami:NodeGroup", "other", "other", "--yes", "--stack", "lab"]
    assert "'other' is no id of a NodeGroup: it is environment/name" in site.project.pulumi(
        *refused, ok=False
    )


def test_a_pool_that_is_replaced_ends_declared(site: Declared) -> None:
    site.has(GPU)
    site.project.up()
    site.project.up("--replace", "**::gpu-nodes")
    assert "quiet" in site.script(SECOND)
    assert site.send("smd", "GET", "/hsm/v2/groups/gpu")["members"]["ids"] == ["x1000c0s0b0n0", SECOND]


def test_wrong_inputs_are_refused_by_path_before_anything_is_told(site: Declared) -> None:
    wrong = {**node(1), "mac": "01:00:00:00:00:01", "bmc": "x1000"}
    empty = site.everything()
    site.has(replace(GPU, name="GPU"))
    assert "String should match pattern" in site.project.pulumi("preview", "--stack", "lab", ok=False)
    site.has(replace(GPU, nodes=[node(0), wrong]))
    printed = site.project.pulumi("preview", "--stack", "lab", ok=False)
    assert "'01:00:00:00:00:01' is a multicast address" in printed
    assert "'x1000' is a Cabinet, a NodeBMC" in printed
    assert site.everything() == empty


def test_a_node_that_comes_from_another_pool_is_declared_once_it_is_free(site: Declared) -> None:
    site.write.declare(GPU)
    site.has(Pool("cpu", "tds", [node(1)], GPU.boot, "#cloud-config\n"))
    up = site.project.start_up()

    def waits() -> bool:
        return "cpu" in site.everything()["/admin/groups"]

    try:
        wait_for(waits, "what comes before the nodes is there")
        assert site.send("smd", "GET", "/hsm/v2/groups/cpu")["members"]["ids"] == []
        site.write.release([node(1)])
        printed = up.communicate(timeout=60)[0]
    finally:
        up.kill()
    assert up.returncode == 0, printed
    assert site.send("smd", "GET", "/hsm/v2/groups/cpu")["members"]["ids"] == [SECOND]


def test_interrupted_it_stops_and_the_next_update_goes_on(site: Declared) -> None:
    site.write.declare(GPU)
    site.has(Pool("cpu", "tds", [node(1)], GPU.boot, "#cloud-config\n"))
    up = site.project.start_up()
    try:
        wait_for(lambda: "cpu" in site.everything()["/admin/groups"], "it waits for the node")
        printed = interrupt(up)
    except subprocess.TimeoutExpired:
        up.kill()
        raise
    assert up.returncode != 0, printed
    site.write.release([node(1)])
    site.project.up()
    assert site.send("smd", "GET", "/hsm/v2/groups/cpu")["members"]["ids"] == [SECOND]


def test_a_refresh_finds_other_defaults_of_the_cloud_init_server(site: Declared) -> None:
    for part in ("set-cloud-init-defaults.yml", "verify-cloud-init-defaults.yml", "tasks", "library"):
        source, target = REPOSITORY / "playbooks" / part, site.project.root / "playbooks" / part
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    run = {
        "playbook": "playbooks/set-cloud-init-defaults.yml",
        "verify": "playbooks/verify-cloud-init-defaults.yml",
        "variables": {"cloud_init": site.urls["cloud-init"], "cloud_init_url": CLOUD_INIT_URL},
    }
    site.project.write("stacks/__main__.py", PLAYBOOK_RUNS)
    site.project.declare(**{"cloud-init-defaults": run})
    site.project.up()
    assert "drift" not in site.refresh()
    site.send("cloud-init", "POST", "/admin/cluster-defaults", {"base-url": "http://other"})
    assert "drift: Set the defaults (localhost)" in site.refresh()
    site.project.up()
    assert OpenChami(Services("", "", site.urls["cloud-init"]), check=True).set_defaults(CLOUD_INIT_URL) == []


def at_boot_service(document: dict[str, Any]) -> None:
    """The site has boot-service instead of BSS."""
    del document["provisioner"]["bss"]
    document["provisioner"]["boot_service"] = "http://10.77.0.1:27776"


def test_boot_service_is_told_refreshed_and_cleared_as_bss_is(tmp_path: Path) -> None:
    with Provisioner(tmp_path / "provisioner.db") as provisioner:
        (folder := tmp_path / "site").mkdir()
        site = Declared(folder, provisioner, at_boot_service)
        for one in GPU.nodes:  # as it copies them from SMD
            spec = {"xname": one["xname"], "nid": one["nid"], "bootMac": one["mac"]}
            site.send("boot-service", "POST", "/nodes", {"metadata": {"name": one["xname"]}, "spec": spec})
        site.has(GPU)
        site.project.up()
        [told] = site.send("boot-service", "GET", "/bootconfigurations")
        assert told["spec"]["hosts"] == ["x1000c0s0b0n0", SECOND]
        assert told["spec"]["params"] == f"quiet ds=nocloud-net;s={CLOUD_INIT_URL}/"

        less = {"metadata": told["metadata"], "spec": {**told["spec"], "hosts": ["x1000c0s0b0n0"]}}
        site.send("boot-service", "PUT", f"/bootconfigurations/{told['metadata']['uid']}", less)
        assert f"drift: boot parameters of {SECOND}; the next `pulumi up` puts it back" in site.refresh()
        site.project.up()
        assert site.project.operations() == UNCHANGED
        [again] = site.send("boot-service", "GET", "/bootconfigurations")
        assert again["spec"] == told["spec"]

        site.project.pulumi("destroy", "--yes", "--skip-preview", "--stack", "lab")
        assert site.send("boot-service", "GET", "/bootconfigurations") == []
        assert site.send("boot-service", "GET", "/nodes") == []
