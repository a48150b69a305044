"""A node that boots gets a certificate of its name, once; whoever else asks gets none, and the log says why."""

import base64
import concurrent.futures
import contextlib
import json
import socket
import time
from collections.abc import Iterator

import httpx
import kubernetes
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from lab.provisioner.bss_state import ACCESS
from tests.contracts.identity_bench import Bench, bench, node, request_for

MANY = 1000


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Two replicas. Each test uses nodes of its own, so that what one has asked for is not in another's way."""
    with bench(tmp_path_factory.mktemp("identity")) as made:
        made.declare("gpu", *range(1, 100))
        made.declare("batch", 100)
        yield made


def ask(service: Bench, number: int, pem: str | bytes, replica: int = 0) -> httpx.Response:
    with service.as_node(number, replica) as client:
        return client.post("/v1/certificate", content=pem)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def own(number: int) -> str:
    return f"system:node:{node(number).xname}"


def certificates(number: int) -> int:
    found = kubernetes.client.CertificatesV1Api().list_certificate_signing_request()
    return sum(one.metadata.name.startswith(node(number).xname + "-") for one in found.items)


def test_a_node_that_has_just_booted_is_told_its_name_and_gets_its_certificate(service: Bench):
    service.boot(1)
    with service.as_node(1) as client:
        assert client.get("/v1/node").json() == {"xname": node(1).xname, "address": "127.0.1.1"}
        answer = client.post("/v1/certificate", content=request_for(own(1)))
    certificate = x509.load_pem_x509_certificate(answer.json()["certificate"].encode())
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == own(1)
    assert certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert 6 < lifetime.total_seconds() / 86400 < 8


def test_another_key_in_the_same_boot_gets_none_from_either_replica(service: Bench):
    service.boot(2)
    assert ask(service, 2, request_for(own(2))).status_code == 200
    for replica in (0, 1):
        assert refusal(ask(service, 2, request_for(own(2)), replica)) == (409, "already-issued")
    assert certificates(2) == 1


def test_a_node_whose_answer_got_lost_asks_again_and_gets_the_same(service: Bench):
    service.boot(3)
    pem = request_for(own(3))
    answers = [ask(service, 3, pem, replica).json()["certificate"] for replica in (0, 1, 0)]
    assert len(set(answers)) == 1
    assert certificates(3) == 1


def test_the_next_boot_gets_the_next_certificate(service: Bench):
    service.boot(4)
    first = ask(service, 4, request_for(own(4))).json()["certificate"]
    time.sleep(1.1)  # the provisioner counts in seconds
    service.boot(4)
    assert ask(service, 4, request_for(own(4))).json()["certificate"] != first


def test_a_request_of_an_earlier_boot_gets_nothing_of_this_one_for_a_thief(service: Bench):
    """Replayed from its node, it gives a certificate whose key is there only; from elsewhere, none."""
    service.boot(5)
    service.boot(6)
    pem = request_for(own(5))
    assert ask(service, 5, pem).status_code == 200
    assert refusal(ask(service, 6, pem)) == (403, "other-name")


@pytest.mark.parametrize(
    "name",
    [
        "system:node:x1000c0s1b1n0",
        "system:node:X1000C0S0B7N0",
        "system:node:x1000c0s0b7n0 ",
        "system:admin",
        "system:node:",
        "system:node:x1000c0s0b7n0/CN=system:node:x1000c0s0b1n0",
    ],
)
def test_a_name_that_is_not_exactly_its_own_is_refused(service: Bench, name: str):
    service.boot(7)
    assert refusal(ask(service, 7, request_for(name))) == (403, "other-name")
    assert certificates(7) == 0


@pytest.mark.parametrize("group", ["system:masters", "system:nodes/O=system:masters", "nodes"])
def test_a_group_that_is_not_that_of_nodes_is_refused(service: Bench, group: str):
    service.boot(7)
    assert refusal(ask(service, 7, request_for(own(7), group))) == (403, "other-name")


def test_a_request_with_more_names_in_it_is_refused(service: Bench):
    service.boot(7)
    pem = request_for(own(7), "system:nodes", "-addext", "subjectAltName=DNS:kubernetes.default")
    assert refusal(ask(service, 7, pem)) == (422, "bad-request")


def broken_signature() -> str:
    lines = request_for(own(7)).splitlines()
    lines[-2] = lines[-2][::-1]
    return "\n".join(lines)


@pytest.mark.parametrize("body", [b"", b"no request", b"\x00\xff" * 50, b"{}", broken_signature().encode()])
def test_what_is_no_request_is_refused(service: Bench, body: bytes):
    service.boot(7)
    assert refusal(ask(service, 7, body)) == (422, "bad-request")


def test_a_body_that_never_ends_is_cut_off(service: Bench):
    with service.as_node(7) as client:
        answer = client.post("/v1/certificate", content=(b"x" * 4096 for _ in range(10_000)))
    assert refusal(answer) == (413, "too-large")


def test_an_address_that_the_provisioner_does_not_know_is_nobody(service: Bench):
    with service.as_node(200) as client:
        assert refusal(client.get("/v1/node")) == (403, "unknown-address")
    assert refusal(ask(service, 200, request_for(own(1)))) == (403, "unknown-address")


def test_what_a_header_says_of_an_address_counts_for_nothing(service: Bench):
    service.boot(8)
    claimed = {
        "X-Forwarded-For": node(8).address,
        "Forwarded": f"for={node(8).address}",
        "X-Real-IP": node(8).address,
    }
    with service.as_node(200) as client:
        answer = client.post("/v1/certificate", content=request_for(own(8)), headers=claimed)
    assert refusal(answer) == (403, "unknown-address")


def test_a_node_of_another_owner_gets_none(service: Bench):
    service.boot(100)
    assert refusal(ask(service, 100, request_for(own(100)))) == (403, "not-ours")


def test_a_node_that_has_not_booted_gets_none(service: Bench):
    assert refusal(ask(service, 9, request_for(own(9)))) == (403, "stale-boot")


def test_where_bss_notes_boots_a_node_cannot_say_that_it_boots(service: Bench):
    assert service.notice(14).status_code == 404
    assert refusal(ask(service, 14, request_for(own(14)))) == (403, "stale-boot")


def test_a_boot_of_long_ago_does_not_count(service: Bench):
    service.boot(10)
    store = service.provisioner.store
    [entry] = [one for one in store.all(ACCESS) if one["name"] == node(10).xname]
    store.put(ACCESS, node(10).xname, {**entry, "last_epoch": int(time.time()) - 1000})
    assert refusal(ask(service, 10, request_for(own(10)))) == (403, "stale-boot")


def test_a_node_whose_kubelet_answers_needs_no_first_certificate(service: Bench):
    """A pod on it has the node's address, and can fetch the boot script: neither is a secret."""
    service.boot(11)
    with socket.create_server((node(11).address, service.kubelet_port)):
        assert refusal(ask(service, 11, request_for(own(11)))) == (403, "running")
    assert ask(service, 11, request_for(own(11))).status_code == 200


def test_a_thousand_requests_at_once_give_one_certificate(service: Bench):
    service.boot(12)
    requests = [request_for(own(12)) for _ in range(20)]

    def one(number: int) -> int:
        with contextlib.suppress(httpx.TransportError):
            return ask(service, 12, requests[number % 20], number % 2).status_code
        return 0

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        statuses = list(pool.map(one, range(MANY)))
    # The request that won is sent 50 times, and each time may get what it won.
    assert 1 <= statuses.count(200) <= MANY // 20
    assert set(statuses) <= {200, 409, 503}
    assert certificates(12) == 1


def test_64_nodes_that_start_together_all_get_theirs(service: Bench):
    """Told that the service is busy, a node asks again, as playbooks/roles/boot_node/files/node_join.py does."""
    numbers = range(20, 84)
    for number in numbers:
        service.boot(number)
    requests = {number: request_for(own(number)) for number in numbers}

    def patiently(number: int) -> int:
        for turn in range(5):
            answer = ask(service, number, requests[number], (number + turn) % 2)
            if answer.status_code != 503:
                break
            time.sleep(int(answer.headers["Retry-After"]))
        return answer.status_code

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        statuses = dict(zip(numbers, pool.map(patiently, numbers), strict=True))
    assert [number for number, status in statuses.items() if status != 200] == [], service.log()[-3000:]
    assert {certificates(number) for number in numbers} == {1}


def test_every_decision_is_logged_and_no_request_is(service: Bench):
    service.boot(13)
    pem = request_for(own(13))
    ask(service, 13, pem)
    ask(service, 13, request_for(own(1)))
    lines = [json.loads(line) for line in service.log().splitlines()]
    granted, refused = [line for line in lines if line["address"] == node(13).address][-2:]
    assert (granted["decision"], granted["xname"]) == ("granted", node(13).xname)
    assert (refused["decision"], refused["code"]) == ("refused", "other-name")
    assert pem.splitlines()[1] not in service.log()


def test_its_account_may_do_that_and_nothing_else(service: Bench):
    token = (service.directory / "account" / "token").read_text()
    host = kubernetes.client.Configuration.get_default_copy().host
    with httpx.Client(base_url=host, verify=False, headers={"Authorization": f"Bearer {token}"}) as client:
        for path in ("/api/v1/secrets", "/api/v1/nodes", "/apis/coordination.k8s.io/v1/leases"):
            assert client.get(path).status_code == 403
        other = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": "administrator"},
            "spec": {
                "request": base64.b64encode(request_for("admin").encode()).decode(),
                "signerName": "kubernetes.io/kube-apiserver-client",
                "usages": ["client auth"],
            },
        }
        path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
        made = client.post(path, json=other).json()
        approved = {"type": "Approved", "status": "True", "reason": "Test", "message": ""}
        made["status"] = {"conditions": [approved]}
        assert client.put(f"{path}/administrator/approval", json=made).status_code == 403


def test_a_provisioner_that_is_away_is_waited_for(tmp_path_factory: pytest.TempPathFactory):
    with bench(tmp_path_factory.mktemp("away"), replicas=1) as made:
        made.declare("gpu", 1)
        made.boot(1)
        made.provisioner.servers.stop()
        made.provisioner.thread.join()
        answer = ask(made, 1, request_for(own(1)))
        assert refusal(answer) == (503, "try-again")
        assert int(answer.headers["Retry-After"]) > 0


def test_who_asks_too_often_is_told_to_wait(tmp_path_factory: pytest.TempPathFactory):
    with bench(tmp_path_factory.mktemp("often"), replicas=1, per_minute=4) as made:
        made.declare("gpu", 1, 2)
        made.boot(1)
        answers = [ask(made, 1, request_for(own(2))) for _ in range(5)]
        assert refusal(answers[-1]) == (429, "too-often")
        assert int(answers[-1].headers["Retry-After"]) > 0
        made.boot(2)
        assert ask(made, 2, request_for(own(2))).status_code == 200
