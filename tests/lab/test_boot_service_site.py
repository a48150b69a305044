"""A site with boot-service instead of BSS, in a lab of its own: its node boots, joins, and comes back by itself."""

import json
from collections.abc import Iterator

import pytest
from own_lab import SITEWRIGHT, DeployedLab

from tests.lab.conftest import run

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600)]

NODE = "x1000c0s0b0n0"
CHANGES = {
    "  bss: http://10.77.0.1:27778 ": "  boot_service: http://10.77.0.1:27776 ",
    '{name: bss, to: ["10.77.0.1:27778"]': '{name: boot-service, to: ["10.77.0.1:27776"]',
    "nodes: x1000c0s0b[0-1]n0 ": f"nodes: {NODE} ",
    "image_store: 256Mi ": "image_store: 800Mi ",  # the pods of the platform come to this node
    "memory: 3Gi ": "memory: 4Gi ",
}


class WithoutBss(DeployedLab):
    def _site_file(self) -> str:
        text = super()._site_file()
        for old, new in CHANGES.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        return text

    def node(self) -> dict:
        """As the cluster has it."""
        found: dict = json.loads(self.cluster("get", "node", NODE, "--output=json"))
        return found

    def decisions(self) -> list[dict]:
        """Of the identity service about the node, in order."""
        text = self.cluster("logs", "--namespace=node-identity", "ds/node-identity", "--tail=-1")
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("xname") == NODE]

    def has_come_back(self, before: dict) -> bool:
        after = self.node()
        ready = {one["type"]: one["status"] for one in after["status"]["conditions"]}["Ready"]
        another = after["status"]["nodeInfo"]["bootID"] != before["status"]["nodeInfo"]["bootID"]
        return another and ready == "True"


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[WithoutBss]:
    """Up, with a cluster and its one node."""
    made = WithoutBss("swbs", tmp_path_factory.mktemp("lab"))
    with made.deployed(timeout=2700):  # it builds a boot image
        yield made


def test_the_site_is_legal_and_told_what_it_proves_less(lab: WithoutBss):
    [warning] = lab.site.warnings
    assert "only the log of node-identity shows" in str(warning)


def test_the_node_is_ready_and_has_the_certificate_of_its_name(lab: WithoutBss):
    conditions = {one["type"]: one["status"] for one in lab.node()["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    shown = lab.run("ssh", NODE, "openssl x509 -noout -subject -in /etc/kubernetes/pki/kubelet.crt").stdout
    assert f"system:node:{NODE}" in shown
    assert [line["decision"] for line in lab.decisions()] == ["noted", "granted"]


def test_a_second_update_changes_nothing(lab: WithoutBss):
    lab.pulumi("preview", "--expect-no-changes")


def test_the_node_is_listed_as_the_site_file_has_it(lab: WithoutBss):
    environment = {**lab.environment, "KUBECONFIG": str(lab.kubeconfig)}
    [listed] = json.loads(run(SITEWRIGHT, "nodes", "list", lab.file, "--json", env=environment).stdout)
    assert (listed["node"]["xname"], listed["differs"]) == (NODE, "")


def test_a_node_that_reboots_gives_notice_and_comes_back_as_it_was(lab: WithoutBss):
    before, [noted, _] = lab.node(), lab.decisions()
    lab.run("ssh", NODE, "systemctl reboot", check=False)
    lab.wait_for(lambda: lab.has_come_back(before), 240)
    assert lab.node()["metadata"]["uid"] == before["metadata"]["uid"]
    *_, again, granted = lab.decisions()
    assert (again["decision"], granted["decision"]) == ("noted", "granted")
    assert again["boot"] > noted["boot"] and granted["boot"] == again["boot"]
