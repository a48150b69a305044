"""What a node runs when it has booted, against a real API server: it says which image it runs, and of which boot."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config

from tests.contracts.fake_hypervisor import process
from tests.contracts.identity_bench import bench, node
from tests.contracts.test_node_join_program import Machine

PROGRAM = Path(__file__).parents[2] / "playbooks/roles/boot_node/files/node_annotations.py"
XNAME, OTHER = node(0).xname, node(1).xname
IMAGE = "c" * 64
SAID = {"sitewright.dev/boot-image": f"sha256:{IMAGE}", "sitewright.dev/boot-id": "the first"}
ARGUMENTS = f"root=live:http://10.77.0.1/boot/{IMAGE}/rootfs.squashfs sitewright.root=sha256:{'d' * 64} quiet"


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine that has its certificate, and whose kubelet has not started."""
    with bench(tmp_path_factory.mktemp("identity"), replicas=1) as service:
        service.declare("gpu", 0)
        service.boot(0)
        machine = Machine(tmp_path_factory.mktemp("node"), service, service.replicas)
        settings = json.loads(machine.settings.read_text())
        config.load_kube_config(str(service.kubeconfig))
        settings["endpoint"] = client.Configuration.get_default_copy().host
        settings["ca_certificate"] += (service.directory / "certs/apiserver.crt").read_text()
        machine.settings.write_text(json.dumps(settings))
        machine.join()
        yield machine


@pytest.fixture
def machine(joined: Machine) -> Iterator[Machine]:
    boots(joined, "the first")
    yield joined
    for one in client.CoreV1Api().list_node().items:
        client.CoreV1Api().delete_node(one.metadata.name)


def boots(machine: Machine, boot_id: str, in_container: bool = False) -> None:
    for path, text in {
        "proc/cmdline": "quiet root=/dev/vda1\n" if in_container else f"BOOT_IMAGE=vmlinuz {ARGUMENTS}\n",
        "proc/1/cmdline": "\0".join(["/sbin/init", *(ARGUMENTS.split() if in_container else ()), ""]),
        "proc/sys/kernel/random/boot_id": f"{boot_id}\n",
    }.items():
        (machine.root / path).parent.mkdir(parents=True, exist_ok=True)
        (machine.root / path).write_text(text)


def registers(xname: str = XNAME) -> None:
    client.CoreV1Api().create_node({"metadata": {"name": xname, "annotations": {"mine": "stays"}}})


def annotations(xname: str = XNAME) -> dict[str, str]:
    return dict(client.CoreV1Api().read_node(xname).metadata.annotations)


def once(machine: Machine) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), "--once"]
    return subprocess.run(command, env=machine.environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("in_container", [False, True], ids=["machine", "container"])
def test_it_waits_for_the_node_and_says_what_it_booted(machine: Machine, tmp_path: Path, in_container: bool):
    boots(machine, "the first", in_container)
    with process([sys.executable, str(PROGRAM)], tmp_path / "log", machine.environment) as running:
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(1)
        registers()
        assert running.wait(30) == 0
    assert annotations() == {"mine": "stays", **SAID}


def test_after_a_restart_it_says_so_again(machine: Machine):
    registers()
    assert once(machine).returncode == 0
    boots(machine, "the second")
    assert once(machine).returncode == 0
    assert annotations()["sitewright.dev/boot-id"] == "the second"


def test_a_node_that_was_deleted_is_told_apart_from_a_cluster_that_is_away(machine: Machine):
    done = once(machine)
    assert done.returncode == 4 and "it is not in the cluster" in done.stderr
    kubeconfig = machine.root / "etc/kubernetes/kubelet.conf"
    right = kubeconfig.read_text()
    kubeconfig.write_text(right.replace(client.Configuration.get_default_copy().host, "https://127.0.0.1:1"))
    try:
        assert once(machine).returncode == 1
    finally:
        kubeconfig.write_text(right)


def test_it_says_nothing_of_another_node(machine: Machine):
    registers(OTHER)
    name = machine.root / "etc/kubernetes/node.json"
    right = name.read_text()
    name.write_text(json.dumps({**json.loads(right), "xname": OTHER}))
    try:
        assert "403" in once(machine).stderr
    finally:
        name.write_text(right)
    assert annotations(OTHER) == {"mine": "stays"}


@pytest.mark.parametrize("of", ["kubelet", "rke2"])
def test_it_uses_the_certificate_that_was_renewed(machine: Machine, of: str):
    """The one of the boot lasts some days."""
    registers()
    pki = machine.root / "etc/kubernetes/pki"
    certificate, key = (pki / name for name in ("kubelet.crt", "kubelet.key"))
    texts = certificate.read_text(), key.read_text()
    agent = machine.root / "var/lib/rancher/rke2/agent"
    renewed = (
        {machine.root / "var/lib/kubelet/pki/kubelet-client-current.pem": "".join(texts)}
        if of == "kubelet"
        else {agent / "client-kubelet.crt": texts[0], agent / "client-kubelet.key": texts[1]}
    )
    for file, text in renewed.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    certificate.rename(certificate.with_suffix(".old"))
    try:
        assert once(machine).returncode == 0
    finally:
        certificate.with_suffix(".old").rename(certificate)
        for file in renewed:
            file.unlink()
    assert annotations() == {"mine": "stays", **SAID}
