"""64 nodes are powered on at once: each gets its certificate and registers its Node with it, and all become Ready.

kwok is in the place of their kubelets, which is what this cannot show: what a kubelet asks of the API server while it
starts, and the time that takes.
"""

import concurrent.futures
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import kubernetes
import pytest

from sitewright.site.hostlist import fold
from tests.contracts.fake_hypervisor import process
from tests.contracts.identity_bench import Bench, bench, node, private_key, request_for
from tools.locate import tool

pytestmark = pytest.mark.timeout(600)
STAGES = Path(__file__).parents[1] / "data/kwok/stages.yaml"
NUMBERS = range(1, 65)
ANNOTATION = "kwok.x-k8s.io/node"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The identity service in two replicas, and kwok for the Nodes that say they are its."""
    place = tmp_path_factory.mktemp("together")
    with bench(place) as made:
        made.declare("gpu", *NUMBERS)
        kwok = [str(tool("kwok")), "--kubeconfig", str(made.kubeconfig), "--config", str(STAGES)]
        with process(
            [*kwok, "--manage-all-nodes=false", f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake"],
            place / "kwok.log",
        ):
            yield made


def certified(service: Bench, number: int, place: Path) -> ssl.SSLContext:
    """From its boot script to its certificate, for which a node asks again when it is told to.

    Returns: what the node speaks to the API server with.
    """
    service.boot(number)
    key, certificate = place / f"{number}.key", place / f"{number}.crt"
    key.write_bytes(private_key())
    with service.as_node(number, number % 2) as client:
        request = request_for(f"system:node:{node(number).xname}", key=key)
        while (answer := client.post("/v1/certificate", content=request)).status_code == 503:
            time.sleep(1)
    assert answer.status_code == 200, answer.text
    certificate.write_text(answer.json()["certificate"])
    trust = ssl.create_default_context(cafile=str(service.directory / "certs/apiserver.crt"))
    trust.load_cert_chain(certificate, key)
    return trust


def register(trust: ssl.SSLContext, name: str) -> int:
    """As a kubelet does. Returns: the status of the answer."""
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {ANNOTATION: "fake"}},
    }
    server = kubernetes.client.Configuration.get_default_copy().host
    with httpx.Client(verify=trust, trust_env=False, timeout=60) as client:
        return client.post(f"{server}/api/v1/nodes", json=body).status_code


def ready() -> set[str]:
    return {
        one.metadata.name
        for one in kubernetes.client.CoreV1Api().list_node().items
        for condition in one.status.conditions or ()
        if (condition.type, condition.status) == ("Ready", "True")
    }


def test_64_nodes_that_are_powered_on_at_once_all_join(service: Bench, tmp_path: Path):
    def join(number: int) -> int:
        return register(certified(service, number, tmp_path), node(number).xname)

    wanted, began = {node(number).xname for number in NUMBERS}, time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(NUMBERS)) as pool:
        assert set(pool.map(join, NUMBERS)) == {201}
    while missing := wanted - ready():
        assert time.monotonic() - began < 120, f"not Ready: {fold(missing)}"
        time.sleep(0.2)
    print(f"\n64 nodes Ready {time.monotonic() - began:.1f} s after the first boot script")
    assert ready() == wanted


def test_a_node_registers_itself_and_no_other(service: Bench, tmp_path: Path):
    service.declare("more", 65)
    trust = certified(service, 65, tmp_path)
    assert register(trust, node(66).xname) == 403
    assert register(trust, node(65).xname) == 201
