"""The service that gives nodes their identity, as its own process, between a real API server and the provisioner.

Nodes are addresses of 127.0.1.0/24 and 127.0.0.1: whoever asks from one is that node, as far as the service can see.
"""

import contextlib
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import kubernetes

from modules.nodes.node_identity import NAME, NAMESPACE, NodeIdentitySpec, render
from sitewright.provisioning.openchami import Boot
from sitewright.provisioning.openchami_http import Services
from sitewright.site import Node
from tests.contracts.fake_hypervisor import api_server, controllers, free_ports, process, until
from tests.contracts.pools import Pool, PoolClient
from tests.contracts.scheduled_cluster import apply
from tests.contracts.test_provisioner import Provisioner

REPOSITORY = Path(__file__).parents[2]
AGENT_TOKEN = "canary-of-the-agents-0123456789"
BOOT = Boot("http://10.77.0.1/vmlinuz", "http://10.77.0.1/initrd", ["root=live:http://10.77.0.1/root"])


def node(number: int) -> Node:
    """The node of address 127.0.1.<number>; number 0 is this machine itself, 127.0.0.1."""
    bmc = f"x1000c0s{number // 8}b{number % 8}"
    return Node(
        xname=f"{bmc}n0",
        nid=number + 1,
        pool="gpu",
        cluster="svc",
        network="nodes",
        address=f"127.0.1.{number}" if number else "127.0.0.1",
        prefix_length=24,
        gateway="127.0.0.1",
        mac=f"02:00:00:00:00:{number:02x}",
        bmc=bmc,
        bmc_address=f"127.0.2.{number}",
        bmc_mac=f"02:00:00:00:01:{number:02x}",
        cpus=2,
        memory=6 << 30,
        gpus=0,
        labels={},
        taints=[],
    )


@dataclass
class Bench:
    """replicas: URLs of the service's processes. kubelet_port: where a node that runs is expected to answer."""

    directory: Path
    kubeconfig: Path
    provisioner: Provisioner
    replicas: list[str]
    kubelet_port: int

    def declare(self, pool: str, *numbers: int) -> None:
        urls = self.provisioner.urls
        there = PoolClient(Services(urls["smd"], urls["bss"], urls["cloud-init"]))
        there.declare(Pool(pool, "svc", [asdict(node(one)) for one in numbers], BOOT, "#cloud-config\n"))

    def boot(self, number: int) -> None:
        """The node fetches its boot script, as iPXE does."""
        query = {"mac": node(number).mac}
        httpx.get(
            f"{self.provisioner.urls['bss']}/boot/v1/bootscript", params=query, timeout=60
        ).raise_for_status()

    def notice(self, number: int, replica: int = 0) -> httpx.Response:
        """The node says that it boots, as its program does where there is no BSS."""
        with self.as_node(number, replica) as client:
            return client.post("/v1/boot")

    def as_node(self, number: int, replica: int = 0) -> httpx.Client:
        transport = httpx.HTTPTransport(local_address=node(number).address, verify=self.trust)
        return httpx.Client(base_url=self.replicas[replica], transport=transport, timeout=60)

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.directory / "ca.crt"))

    def log(self, replica: int = 0) -> str:
        return (self.directory / f"service-{replica}.log").read_text()


def private_key() -> bytes:
    """As openssl on a node makes it."""
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def request_for(name: str, group: str = "system:nodes", *arguments: str, key: Path | None = None) -> str:
    """A certificate request as openssl on a node makes it. key: file of its key; without one one is made."""
    made = subprocess.run(
        [
            "openssl",
            "req",
            "-new",
            "-key",
            str(key or "/dev/stdin"),
            "-subj",
            f"/O={group}/CN={name}",
            *arguments,
        ],
        input=None if key else private_key(),
        capture_output=True,
        check=True,
    )
    return made.stdout.decode()


@contextlib.contextmanager
def bench(
    directory: Path, replicas: int = 2, per_minute: int = 100_000, rke2: bool = False, bss: bool = True
) -> Iterator[Bench]:
    """rke2: the service has the Secret of an RKE2 cluster, in the directory `rke2` of the bench. bss: False as on a
    site with boot-service, where nodes give notice that they boot."""
    with contextlib.ExitStack() as started:
        provisioner = started.enter_context(Provisioner(directory / "provisioner.db"))
        _authority(directory)
        kubeconfig = started.enter_context(api_server(directory, client_ca=directory / "ca.crt"))
        signing = [f"--cluster-signing-cert-file={directory}/ca.crt"]
        signing += [f"--cluster-signing-key-file={directory}/ca.key"]
        started.enter_context(
            controllers(directory, kubeconfig, "certificatesigningrequest-signing-controller", signing)
        )
        _account(directory, kubeconfig)
        *ports, kubelet_port = free_ports(replicas + 1)
        made = Bench(
            directory, kubeconfig, provisioner, [f"https://127.0.0.1:{port}" for port in ports], kubelet_port
        )
        given = _rke2_secret(directory) if rke2 else {}
        given |= {"BSS": provisioner.urls["bss"]} if bss else {}
        for number, port in enumerate(ports):
            started.enter_context(_service(made, number, port, per_minute, given))
        yield made


def _authority(directory: Path) -> None:
    """The cluster's, which also vouches for the service, as role control_plane has it do."""
    ca = ["-keyout", f"{directory}/ca.key", "-out", f"{directory}/ca.crt", "-subj", "/CN=kubernetes"]
    own = ["-keyout", f"{directory}/tls.key", "-out", f"{directory}/tls.crt", "-subj", "/CN=node-identity"]
    own += [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-CA",
        f"{directory}/ca.crt",
        "-CAkey",
        f"{directory}/ca.key",
    ]
    for arguments in (ca, own):
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
        subprocess.run(["openssl", "req", "-x509", *kind, *arguments], check=True, capture_output=True)


def _account(directory: Path, kubeconfig: Path) -> None:
    """The rights that the module renders, and a token that has them and no others."""
    kubernetes.config.load_kube_config(str(kubeconfig))
    spec = NodeIdentitySpec(pools=("gpu",), smd="http://unused", bss="http://unused")
    apply(kubeconfig, *(manifest for manifest in render(spec) if manifest["kind"] != "DaemonSet"))
    account = directory / "account"
    account.mkdir()
    token = kubernetes.client.CoreV1Api().create_namespaced_service_account_token(
        NAME, NAMESPACE, {"spec": {"audiences": [], "expirationSeconds": 7200}}
    )
    (account / "token").write_text(token.status.token)
    (account / "ca.crt").write_text((directory / "certs" / "apiserver.crt").read_text())


def _rke2_secret(directory: Path) -> dict[str, str]:
    """As the module mounts it. Returns: what the service is told of it."""
    (directory / "rke2").mkdir()
    (directory / "rke2/agent-token").write_text(AGENT_TOKEN)
    (directory / "rke2/password-key").write_text("key of the passwords of all nodes")
    return {"RKE2_SECRETS": str(directory / "rke2"), "TLS_CLIENTS": str(directory / "ca.crt")}


@contextlib.contextmanager
def _service(bench: Bench, number: int, port: int, per_minute: int, more: dict[str, str]) -> Iterator[None]:
    server = kubernetes.client.Configuration.get_default_copy().host.removeprefix("https://")
    given = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONUNBUFFERED": "1",
        "SERVICE_ACCOUNT": str(bench.directory / "account"),
        "KUBERNETES_SERVICE_HOST": server.partition(":")[0],
        "KUBERNETES_SERVICE_PORT": server.partition(":")[2],
        "SMD": bench.provisioner.urls["smd"],
        "NAMESPACE": NAMESPACE,
        "POOLS": "gpu,more",
        "ADDRESS": "127.0.0.1",
        "PORT": str(port),
        "KUBELET_PORT": str(bench.kubelet_port),
        "BOOT_SECONDS": "900",
        "CERTIFICATE_SECONDS": "604800",
        "REQUESTS_PER_MINUTE": str(per_minute),
        "TLS_CERTIFICATE": str(bench.directory / "tls.crt"),
        "TLS_KEY": str(bench.directory / "tls.key"),
        **more,
    }
    command = [sys.executable, "-m", "modules.nodes.node_identity_service.main"]
    log = bench.directory / f"service-{number}.log"
    with process(command, log, given):
        until(lambda: _answers(f"https://127.0.0.1:{port}/healthz", bench.trust), "the service answers", 30)
        yield


def _answers(url: str, trust: ssl.SSLContext) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, verify=trust, trust_env=False).is_success
    return False
