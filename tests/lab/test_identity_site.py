"""Nodes that come back by themselves, and somebody on a node who would like to be it."""

import json
import time

import pytest

from modules.nodes.node_identity import PORT
from sitewright.site import Site
from tests.bench.figure import Figure
from tests.bench.under_load import keep
from tests.lab.user import Shell

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

NODE = "x1000c0s0b0n0"
TARGET_SECONDS = 15.0


@pytest.fixture(scope="module")
def url(site: Site) -> str:
    [machine] = site.control_plane(site.cluster("svc"))
    return f"https://{machine.address}:{PORT}"


def decisions(shell: Shell) -> list[dict]:
    text = shell.must("kubectl -n node-identity logs ds/node-identity --tail=-1")
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def ask(shell: Shell, machine: str, url: str) -> str:
    """As somebody who has the machine's address and its boot script, and makes a key of their own."""
    script = (
        "cd $(mktemp -d) && openssl ecparam -name prime256v1 -genkey -noout -out key &&"
        f" openssl req -new -key key -subj /O=system:nodes/CN=system:node:{NODE} -out request &&"
        " curl -sk --max-time 20 --data-binary @request"
    )
    return shell.must(f"sitewright lab ssh {machine} '{script} {url}/v1/certificate'")


def test_each_node_was_granted_its_certificate_by_itself(site: Site, shell: Shell):
    granted = {line["xname"] for line in decisions(shell) if line["decision"] == "granted"}
    assert granted == {node.xname for node in site.nodes}


def test_who_is_on_a_node_that_runs_does_not_become_it(site: Site, shell: Shell, url: str):
    [node] = [node for node in site.nodes if node.xname == NODE]
    assert site.provisioner is not None
    script = f"curl -s {site.provisioner.bss}/boot/v1/bootscript?mac={node.mac}"
    assert "kernel" in shell.must(f'sitewright lab ssh {NODE} "{script}"')
    assert json.loads(ask(shell, NODE, url))["code"] == "running"


def test_a_machine_that_is_no_node_gets_nothing(shell: Shell, url: str):
    assert json.loads(ask(shell, "svc-cp", url))["code"] == "unknown-address"


def test_a_node_that_reboots_comes_back_by_itself_as_it_was(shell: Shell):
    def node() -> dict:
        found: dict = json.loads(shell.must(f"kubectl get node {NODE} -o json"))
        return found

    before = node()
    begun = time.monotonic()
    shell.run(f"sitewright lab ssh {NODE} systemctl reboot")
    while not _came_back(after := node(), before) and time.monotonic() < begun + 120:
        time.sleep(0.2)
    seconds = time.monotonic() - begun
    assert _came_back(after, before)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert after["spec"].get("taints") == before["spec"].get("taints")
    keep(Figure("nodes.reboot_to_ready", seconds, "s", TARGET_SECONDS))


def _came_back(after: dict, before: dict) -> bool:
    ready = {one["type"]: one["status"] for one in after["status"]["conditions"]}["Ready"]
    another = after["status"]["nodeInfo"]["bootID"] != before["status"]["nodeInfo"]["bootID"]
    return another and ready == "True" and not after["spec"].get("taints")
