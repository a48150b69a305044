"""Changes, drift and power cuts: each test leaves the site as it found it."""

import json

import pytest

from tests.lab.conftest import SITEWRIGHT, eventually, run, supervisor
from tests.lab.test_1_site import answers

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

PROBE = "import socket; socket.create_connection(('{address}', 8000), 3)"


def test_a_second_up_changes_nothing(pulumi):
    preview = pulumi("preview", "--expect-no-changes", "--diff")
    assert "no changes" in preview.stdout or "unchanged" in preview.stdout


def test_the_policy_of_a_model_decides_who_reaches_it(kubectl):
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

    def allow(ingress: list) -> None:
        patch = json.dumps({"spec": {"ingress": ingress}})
        kubectl("patch", "networkpolicy", "tiny", "--type=merge", "-p", patch)

    policy = json.loads(kubectl("get", "networkpolicy", "tiny", "-o", "json").stdout)
    assert reaches(), "pods of the namespace may ask"
    allow([])
    try:
        assert eventually(lambda: not reaches(), 30), "the policy did not deny within 30 s"
    finally:
        allow(policy["spec"]["ingress"])
    assert eventually(reaches, 30), "the connection did not come back after the policy was put back"


def test_a_node_that_lost_power_comes_back_under_its_name(site, kubectl, runbook):
    book, xname = runbook("node-lost-power"), site.nodes[1].xname
    before = _node(kubectl, xname)
    run(SITEWRIGHT, "nodes", "power", "lab", xname, "off", "--yes")
    book.follow(1, 2)
    book.worked()
    after = _node(kubectl, xname)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert after["status"]["nodeInfo"]["bootID"]


def test_refresh_finds_a_deployment_changed_by_hand(kubectl, runbook):
    book = runbook("changed-by-hand")
    kubectl("scale", "deployment", "tiny", "--replicas=1")
    assert "tiny-deployment" in book.follow(1)
    book.follow(2)
    deployment = json.loads(kubectl("get", "deployment", "tiny", "-o", "json").stdout)
    assert deployment["spec"]["replicas"] == 2
    book.worked()


def test_refresh_finds_a_file_of_a_role_changed_by_hand(host, runbook):
    book = runbook("changed-by-hand")
    machine, path = host("svc-cp"), "/etc/systemd/system/containerd.service"
    machine.run_test(f"echo '# by hand' >> {path}")
    book.quotes("drift:", book.follow(1))
    book.follow(2)
    assert "by hand" not in machine.file(path).content_string
    book.worked()


def test_a_registry_that_is_down_is_named_and_the_next_update_goes_on(site, shell):
    supervisor(site, "stop", "registry")
    failed = shell.run("pulumi up -s lab --yes --skip-preview --replace '**::service-images'")
    assert failed.returncode != 0
    assert "registry http://127.0.0.1:15000/v2/: not reached: " in failed.stdout
    assert "and that the registry runs" in failed.stdout
    shell.must("sitewright lab up")
    shell.must("pulumi up -s lab --yes --skip-preview")
    shell.must("pulumi preview -s lab --expect-no-changes")


def test_the_model_answers_after_all_that(outputs):
    assert eventually(lambda: answers(outputs["models"]["tiny"]), 120)


def _node(kubectl, name: str) -> dict:
    return json.loads(kubectl("get", "node", name, "-o", "json").stdout)
