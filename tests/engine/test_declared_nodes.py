"""What the provisioner is told, under the real engine, with the real playbooks and the lab's provisioner."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sitewright.provisioning.openchami import OpenChami, Pool
from sitewright.provisioning.openchami_http import Services
from tests.contracts.test_openchami import BOOT, GPU, Site, node
from tests.contracts.test_provisioner import Provisioner
from tests.engine.playbook_project import Project, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
CLOUD_INIT_URL = "http://10.77.0.1:27777"


class Declared(Site):
    """A stack that declares pools, and the site's services."""

    def __init__(self, folder: Path, provisioner: Provisioner) -> None:
        super().__init__(provisioner)
        self.urls, self.project = provisioner.urls, Project(folder)
        for directory in ("tasks", "library"):
            shutil.copytree(PLAYBOOKS / directory, folder / "playbooks" / directory)
        for playbook in PLAYBOOKS.glob("*.yml"):
            shutil.copy(playbook, folder / "playbooks")

    def run(self, pool: Pool) -> dict[str, Any]:
        boot = {
            "kernel_url": BOOT.kernel_url,
            "initrd_url": BOOT.initrd_url,
            "kernel_arguments": BOOT.arguments,
        }
        urls = {"smd": self.urls["smd"], "bss": self.urls["bss"], "cloud_init": self.urls["cloud-init"]}
        told = {"pool": pool.name, "cluster": pool.cluster, "nodes": pool.nodes, "boot": boot}
        return {
            "playbook": "playbooks/declare-nodes.yml",
            "verify": "playbooks/verify-declared-nodes.yml",
            "undo": "playbooks/undeclare-nodes.yml",
            "variables": {**told, **urls, "cloud_config": "#cloud-config\n"},
        }

    def refresh(self) -> str:
        return self.project.pulumi("refresh", "--yes", "--skip-preview", "--stack", "lab")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Declared]:
    with Provisioner(tmp_path / "provisioner.db") as provisioner:
        folder = tmp_path / "site"
        folder.mkdir()
        yield Declared(folder, provisioner)


def test_a_refresh_names_the_nodes_that_the_provisioner_forgot(site: Declared) -> None:
    site.project.declare(**{"declare-gpu": site.run(GPU)})
    site.project.up()
    before = site.everything()
    assert "drift" not in site.refresh()
    assert site.everything() == before

    site.send("bss", "DELETE", "/boot/v1/bootparameters", {"hosts": ["x1000c0s0b1n0"]})
    site.send("smd", "DELETE", "/hsm/v2/groups/gpu")
    changed = site.everything()
    told = (
        "drift: group gpu of x1000c0s0b[0-1]n0, boot parameters of x1000c0s0b1n0; the next `pulumi up` runs"
    )
    assert told in site.refresh()
    assert site.everything() == changed
    assert site.project.operations() == {"declare-gpu": "update"}
    site.project.up()
    assert site.everything() == before
    assert "drift" not in site.refresh()


def test_a_pool_that_is_replaced_ends_declared(site: Declared) -> None:
    site.project.declare(**{"declare-gpu": site.run(GPU)})
    site.project.up()
    site.project.up("--replace", "**::declare-gpu")
    assert [record["action"] for record in site.project.records()] == ["run", "undo", "run"]
    assert "root=live" in site.script("x1000c0s0b1n0")


def test_a_node_that_comes_from_another_pool_is_declared_once_it_is_free(site: Declared) -> None:
    site.write.declare(GPU)
    site.project.declare(**{"declare-cpu": site.run(Pool("cpu", "tds", [node(1)], BOOT, ""))})
    up = site.project.start_up()

    def waits() -> bool:
        logs = (site.project.root / ".sitewright/runs").glob("*/log.txt")
        return any("RETRYING" in log.read_text() for log in logs)

    try:
        wait_for(waits, "the run waits for the node")
        assert "cpu" not in site.everything()["/admin/groups"]
        site.write.forget("gpu", [node(1)])
        printed = up.communicate(timeout=60)[0]
    finally:
        up.kill()
    assert up.returncode == 0, printed
    assert site.send("smd", "GET", "/hsm/v2/groups/cpu")["members"]["ids"] == ["x1000c0s0b1n0"]


def test_a_refresh_finds_other_defaults_of_the_cloud_init_server(site: Declared) -> None:
    run = {
        "playbook": "playbooks/set-cloud-init-defaults.yml",
        "verify": "playbooks/verify-cloud-init-defaults.yml",
        "variables": {"cloud_init": site.urls["cloud-init"], "cloud_init_url": CLOUD_INIT_URL},
    }
    site.project.declare(**{"cloud-init-defaults": run})
    site.project.up()
    assert "drift" not in site.refresh()
    site.send("cloud-init", "POST", "/admin/cluster-defaults", {"base-url": "http://other"})
    assert "drift: Set the defaults (localhost)" in site.refresh()
    site.project.up()
    assert OpenChami(Services("", "", site.urls["cloud-init"]), check=True).set_defaults(CLOUD_INIT_URL) == []
