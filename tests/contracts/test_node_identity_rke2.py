"""What a node of an RKE2 cluster gets beside its certificate, and who gets nothing."""

import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.contracts.identity_bench import AGENT_TOKEN, Bench, bench, node


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("identity"), rke2=True) as made:
        made.declare("gpu", *range(1, 10))
        made.declare("batch", 20)
        yield made


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def identity(service: Bench, directory: Path, number: int) -> tuple[Path, Path]:
    """Certificate and key of a node that has just booted."""
    service.boot(number)
    key, request, certificate = (directory / f"{number}.{kind}" for kind in ("key", "csr", "crt"))
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    name = f"/O=system:nodes/CN=system:node:{node(number).xname}"
    openssl("req", "-new", "-key", key, "-subj", name, "-out", request)
    with service.as_node(number) as client:
        answer = client.post("/v1/certificate", content=request.read_bytes())
    certificate.write_text(answer.raise_for_status().json()["certificate"])
    return certificate, key


def ask(
    service: Bench, number: int, shown: tuple[Path, Path] | None = None, replica: int = 0
) -> httpx.Response:
    trust = service.trust
    if shown:
        trust.load_cert_chain(*shown)
    transport = httpx.HTTPTransport(local_address=f"127.0.1.{number}", verify=trust)
    with httpx.Client(base_url=service.replicas[replica], transport=transport, timeout=60) as client:
        return client.get("/v1/rke2")


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_node_gets_the_token_and_a_password_that_is_its_own_and_stays(service: Bench, tmp_path: Path):
    one, two = (identity(service, tmp_path, number) for number in (1, 2))
    answers = [ask(service, 1, one, replica).raise_for_status().json() for replica in (0, 1, 0)]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["agent_token"] == AGENT_TOKEN
    assert len(answers[0]["node_password"]) == 64
    assert ask(service, 2, two).json()["node_password"] != answers[0]["node_password"]


def test_after_its_next_boot_it_has_the_same_password(service: Bench, tmp_path: Path):
    first = ask(service, 3, identity(service, tmp_path, 3)).json()
    time.sleep(1.1)  # the provisioner counts in seconds
    assert ask(service, 3, identity(service, tmp_path, 3)).json() == first


def test_who_shows_no_certificate_gets_nothing(service: Bench):
    service.boot(4)
    assert refusal(ask(service, 4)) == (401, "no-certificate")


def test_another_nodes_certificate_is_no_use_at_ones_own_address(service: Bench, tmp_path: Path):
    assert refusal(ask(service, 6, identity(service, tmp_path, 5))) == (403, "other-name")


def test_from_an_address_that_is_no_nodes_a_certificate_is_no_use(service: Bench, tmp_path: Path):
    assert refusal(ask(service, 200, identity(service, tmp_path, 7))) == (403, "unknown-address")


def test_a_node_that_was_given_to_another_owner_gets_nothing_with_what_it_has(service: Bench, tmp_path: Path):
    shown = forged(service, tmp_path, f"/O=system:nodes/CN=system:node:{node(20).xname}")
    assert refusal(ask(service, 20, shown)) == (403, "not-ours")


@pytest.mark.parametrize(
    "name",
    [
        "/O=system:masters/CN=system:node:{xname}",
        "/O=system:nodes/CN={xname}",
        "/O=system:nodes/O=system:masters/CN=system:node:{xname}",
        "/CN=system:node:{xname}",
        "/O=system:masters/CN=admin",
    ],
)
def test_a_certificate_of_the_same_authority_that_is_no_nodes_is_refused(
    service: Bench, tmp_path: Path, name: str
):
    shown = forged(service, tmp_path, name.format(xname=node(8).xname))
    assert refusal(ask(service, 8, shown)) == (403, "other-name")


def forged(service: Bench, directory: Path, name: str) -> tuple[Path, Path]:
    """A certificate of the cluster's authority, made by somebody who has that."""
    return made(directory, name, "-CA", service.directory / "ca.crt", "-CAkey", service.directory / "ca.key")


def made(directory: Path, name: str, *signed: str | Path) -> tuple[Path, Path]:
    certificate, key = directory / "forged.crt", directory / "forged.key"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    openssl("req", "-x509", *kind, "-subj", name, "-keyout", key, "-out", certificate, *signed)
    return certificate, key


def test_a_certificate_of_another_authority_does_not_get_that_far(service: Bench, tmp_path: Path):
    shown = made(tmp_path, f"/O=system:nodes/CN=system:node:{node(8).xname}")
    with pytest.raises((httpx.TransportError, ssl.SSLError)):
        ask(service, 8, shown)


def test_a_secret_that_lacks_a_part_is_waited_for_and_no_password_is_made_of_nothing(
    service: Bench, tmp_path: Path
):
    shown = identity(service, tmp_path, 9)
    for name in ("agent-token", "password-key"):
        file = service.directory / "rke2" / name
        right = file.read_text()
        file.write_text("\n")
        try:
            answer = ask(service, 9, shown)
        finally:
            file.write_text(right)
        assert refusal(answer) == (503, "try-again")
        assert name in answer.json()["reason"]
    assert ask(service, 9, shown).status_code == 200


def test_what_was_handed_out_is_logged_and_its_content_is_not(service: Bench):
    log = service.log(0) + service.log(1)
    assert '"decision": "handed-out"' in log
    assert AGENT_TOKEN not in log


def test_a_cluster_of_another_distribution_hands_nothing_out(tmp_path: Path):
    with bench(tmp_path, replicas=1) as made_here:
        made_here.declare("gpu", 1)
        assert ask(made_here, 1).status_code == 404
