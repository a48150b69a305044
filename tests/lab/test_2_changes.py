"""Changes, drift and power cuts: each test leaves the site as it found it."""

import json
import time

import pytest

from tests.lab.test_1_site import ask

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

POLICY = """
apiVersion: v1
kind: Namespace
metadata: {name: policy}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: default}
spec:
  podSelector: {matchLabels: {app.kubernetes.io/name: tiny}}
  policyTypes: [Ingress]
"""

PROBE = "import socket; socket.create_connection(('{address}', 8000), 3)"


def test_a_second_up_changes_nothing(pulumi):
    preview = pulumi("preview", "--expect-no-changes", "--diff")
    assert "no changes" in preview.stdout or "unchanged" in preview.stdout


def test_a_network_policy_that_denies_is_seen_to_deny(kubectl):
    pods = json.loads(kubectl("get", "pods", "-l", "app.kubernetes.io/name=tiny", "-o", "json").stdout)[
        "items"
    ]
    caller, called = pods[0]["metadata"]["name"], pods[1]["status"]["podIP"]

    def reaches() -> bool:
        python = pods[0]["spec"]["containers"][0]["command"][0]
        return (
            kubectl("exec", caller, "--", python, "-c", PROBE.format(address=called), check=False).returncode
            == 0
        )

    assert reaches()
    kubectl("apply", "-f", "-", input=POLICY)
    try:
        assert eventually(lambda: not reaches(), 30), "the policy did not deny within 30 s"
    finally:
        kubectl("delete", "-f", "-", input=POLICY)
    assert eventually(reaches, 30), "the connection did not come back after the policy was deleted"


def test_a_node_that_lost_power_comes_back_under_its_name(site, pulumi, kubectl):
    xname = site.nodes[1].xname
    before = _node(kubectl, xname)
    _power(xname, "force-off")
    pulumi("up", "--yes", "--skip-preview", "--refresh")
    after = _node(kubectl, xname)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert after["status"]["nodeInfo"]["bootID"]
    assert eventually(lambda: _ready(_node(kubectl, xname)), 60)


def test_refresh_finds_a_deployment_changed_by_hand(pulumi, kubectl):
    kubectl("scale", "deployment", "tiny", "--replicas=1")
    found = pulumi("refresh", "--yes", "--skip-preview", "--diff")
    assert "tiny-deployment" in found.stdout
    pulumi("up", "--yes", "--skip-preview")
    deployment = json.loads(kubectl("get", "deployment", "tiny", "-o", "json").stdout)
    assert deployment["spec"]["replicas"] == 2


def test_refresh_finds_a_file_of_a_role_changed_by_hand(pulumi, host):
    machine, path = host("svc-cp"), "/etc/systemd/system/containerd.service"
    machine.run_test(f"echo '# by hand' >> {path}")
    found = pulumi("refresh", "--yes", "--skip-preview")
    assert "drift" in found.stdout
    pulumi("up", "--yes", "--skip-preview")
    assert "by hand" not in machine.file(path).content_string


def test_the_model_answers_after_all_that(outputs):
    assert eventually(lambda: _answers(outputs), 120)


def eventually(fact, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if fact():
            return True
        time.sleep(1)
    return False


def _answers(outputs) -> bool:
    try:
        return bool(ask(outputs["models"]["tiny"], "What is the highest mountain of the Alps?"))
    except OSError:
        return False


def _node(kubectl, name: str) -> dict:
    return json.loads(kubectl("get", "node", name, "-o", "json").stdout)


def _ready(node: dict) -> bool:
    return {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"] == "True"


def _power(xname: str, action: str) -> None:
    from tests.lab.conftest import SITEWRIGHT, run

    run(SITEWRIGHT, "lab", "power", xname, action)
