"""Where no BSS notes who fetched a boot script, a node says itself that it boots, and that is what counts."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import kubernetes
import pytest

from modules.nodes.node_identity import NAMESPACE
from modules.nodes.node_identity_service.cluster import EPOCH, NOTICE
from tests.contracts.identity_bench import Bench, bench, node, request_for
from tests.contracts.test_node_identity import ask, certificates, own, refusal


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Two replicas. Each test uses nodes of its own, so that what one has asked for is not in another's way."""
    with bench(tmp_path_factory.mktemp("identity"), bss=False) as made:
        made.declare("gpu", *range(1, 20))
        made.declare("batch", 100)
        yield made


def next_notice(service: Bench, number: int) -> httpx.Response:
    """Of the next boot: notices count in seconds, and no node boots twice in one."""
    time.sleep(1.1)
    return service.notice(number)


def noted(number: int) -> str | None:
    """What the cluster has of the node's notices."""
    leases = kubernetes.client.CoordinationV1Api().list_namespaced_lease(NAMESPACE).items
    found = {lease.metadata.name: lease.metadata.annotations[EPOCH] for lease in leases}
    return found.get(NOTICE + node(number).xname)


def test_a_node_that_gave_notice_of_its_boot_gets_its_certificate(service: Bench):
    answer = service.notice(1)
    assert answer.json()["xname"] == node(1).xname
    assert 0 <= time.time() - answer.json()["booted"] < 60
    assert "BEGIN CERTIFICATE" in ask(service, 1, request_for(own(1))).json()["certificate"]


def test_a_node_that_gave_none_gets_none_though_it_fetched_its_boot_script(service: Bench):
    service.boot(2)
    answer = ask(service, 2, request_for(own(2)))
    assert refusal(answer) == (403, "stale-boot")
    assert "gave notice of its boot never" in answer.json()["reason"]


def test_a_notice_of_long_ago_does_not_count(service: Bench):
    service.notice(3)
    old = {"metadata": {"annotations": {EPOCH: str(int(time.time()) - 1000)}}}
    leases = kubernetes.client.CoordinationV1Api()
    leases.patch_namespaced_lease(NOTICE + node(3).xname, NAMESPACE, old)
    assert refusal(ask(service, 3, request_for(own(3)))) == (403, "stale-boot")
    service.notice(3)
    assert ask(service, 3, request_for(own(3))).status_code == 200


def test_what_one_replica_was_told_counts_at_the_other(service: Bench):
    service.notice(4, replica=0)
    assert ask(service, 4, request_for(own(4)), replica=1).status_code == 200
    assert refusal(ask(service, 4, request_for(own(4)), replica=0)) == (409, "already-issued")
    assert certificates(4) == 1


def test_a_node_whose_answer_got_lost_asks_again_and_gets_the_same(service: Bench):
    service.notice(5)
    pem = request_for(own(5))
    answers = [ask(service, 5, pem, replica).json()["certificate"] for replica in (0, 1, 0)]
    assert len(set(answers)) == 1


def test_the_next_boot_gets_the_next_certificate(service: Bench):
    service.notice(6)
    first = ask(service, 6, request_for(own(6))).json()["certificate"]
    assert refusal(ask(service, 6, request_for(own(6)))) == (409, "already-issued")
    next_notice(service, 6)
    assert ask(service, 6, request_for(own(6))).json()["certificate"] != first


def test_two_notices_before_the_certificate_are_one_boot(service: Bench):
    first = service.notice(7).json()["booted"]
    assert next_notice(service, 7).json()["booted"] > first
    assert ask(service, 7, request_for(own(7))).status_code == 200
    assert refusal(ask(service, 7, request_for(own(7)))) == (409, "already-issued")


def test_who_is_on_a_node_that_runs_cannot_give_notice_of_a_boot(service: Bench):
    """A pod has its node's address: without this it would get a second certificate of that name."""
    with socket.create_server((node(8).address, service.kubelet_port)):
        assert refusal(service.notice(8)) == (403, "running")
    assert noted(8) is None


def test_an_address_that_the_provisioner_does_not_know_gives_no_notice(service: Bench):
    assert refusal(service.notice(200)) == (403, "unknown-address")


def test_a_node_of_another_owner_gives_no_notice(service: Bench):
    assert refusal(service.notice(100)) == (403, "not-ours")
    assert noted(100) is None


def test_what_a_notice_says_beside_its_address_counts_for_nothing(service: Bench):
    with service.as_node(9) as client:
        claimed = {"X-Forwarded-For": node(10).address}
        answer = client.post("/v1/boot", json={"xname": node(10).xname}, headers=claimed)
    assert answer.json()["xname"] == node(9).xname
    assert noted(9) is not None and noted(10) is None


def test_every_notice_is_logged(service: Bench):
    booted = service.notice(11).json()["booted"]
    ask(service, 11, request_for(own(11)))
    with socket.create_server((node(11).address, service.kubelet_port)):
        service.notice(11)
    lines = [json.loads(line) for line in service.log().splitlines()]
    told = [line for line in lines if line["address"] == node(11).address]
    assert [(line["decision"], line["path"]) for line in told] == [
        ("noted", "/v1/boot"),
        ("granted", "/v1/certificate"),
        ("refused", "/v1/boot"),
    ]
    assert (told[0]["xname"], told[0]["boot"], told[2]["code"]) == (node(11).xname, booted, "running")


def test_many_notices_at_once_through_both_replicas_are_all_taken(service: Bench):
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda turn: service.notice(12, turn % 2).json()["booted"], range(64)))
    assert min(answers) <= int(noted(12) or 0) <= max(answers)
    assert ask(service, 12, request_for(own(12))).status_code == 200


def test_who_gives_notice_too_often_is_told_to_wait(tmp_path_factory: pytest.TempPathFactory):
    with bench(tmp_path_factory.mktemp("often"), replicas=1, per_minute=4, bss=False) as made:
        made.declare("gpu", 1)
        assert [made.notice(1).status_code for _ in range(5)] == [200, 200, 200, 200, 429]
