"""What a node runs when it boots, against the real service: it joins by itself, and waits where it cannot."""

import json
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.contracts.fake_hypervisor import process, until
from tests.contracts.identity_bench import Bench, bench, node

PROGRAM = Path(__file__).parents[2] / "playbooks/roles/boot_node/files/node_join.py"
XNAME = node(0).xname
GIB = 2**30


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("identity")) as made:
        made.declare("gpu", 0)
        yield made


@pytest.fixture
def next_second() -> None:
    """The provisioner counts in seconds: a boot in the same second is the same boot."""
    time.sleep(1.1)


class Machine:
    """The files of a node that has just booted: what cloud-init wrote, and nothing else."""

    def __init__(self, root: Path, service: Bench, urls: list[str]) -> None:
        self.root = root
        settings = {
            "endpoint": "https://10.77.0.10:6443",
            "ca_certificate": (service.directory / "ca.crt").read_text(),
            "identity": urls,
            "labels": {"sitewright.dev/pool": "gpu"},
            "taints": ["only=batch:NoSchedule", "fragile:NoExecute"],
            "kubelet": {
                "kind": "KubeletConfiguration",
                "authentication": {"anonymous": {"enabled": False}},
                "evictionHard": {"memory.available": str(GIB)},
            },
            "memory": {
                "allocatable": 4 * GIB,
                "reserved": 3 * GIB,
                "tmpfs": {"/var/lib/containerd": 2 * GIB},
            },
        }
        self.settings = root / "etc/kubernetes/node-join.json"
        self.settings.parent.mkdir(parents=True)
        self.settings.write_text(json.dumps(settings))
        self.has_memory(8 * GIB)
        programs = root / "usr/local/bin"
        programs.mkdir(parents=True)
        # A node mounts; this machine is not one.
        (programs / "mount").write_text(f'#!/bin/sh\necho "$@" >> {root}/mounts\n')
        (programs / "mount").chmod(0o755)
        path = f"{programs}:/usr/bin:/bin"
        self.environment = {"NODE_JOIN_ROOT": str(root), "PATH": path, "PYTHONUNBUFFERED": "1"}
        # Nothing beside the programs: an image is named by what lies there.
        self.environment["PYTHONDONTWRITEBYTECODE"] = "1"

    def has_memory(self, size: int) -> None:
        (self.root / "proc").mkdir(exist_ok=True)
        (self.root / "proc/meminfo").write_text(f"MemTotal:  {size // 1024} kB\nMemFree: 1 kB\n")

    def reserves(self) -> int:
        return int(json.loads(self.read("var/lib/kubelet/config.yaml"))["systemReserved"]["memory"])

    def join(self) -> str:
        command = [sys.executable, str(PROGRAM)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def read(self, path: str) -> str:
        return (self.root / path).read_text()


@pytest.fixture
def machine(tmp_path: Path, service: Bench) -> Machine:
    return Machine(tmp_path, service, service.replicas)


def test_a_node_that_boots_has_its_identity_and_the_kubelet_its_files(service: Bench, machine: Machine):
    service.boot(0)
    assert f"{XNAME} has its identity" in machine.join()
    certificate = x509.load_pem_x509_certificate(machine.read("etc/kubernetes/pki/kubelet.crt").encode())
    assert f"CN=system:node:{XNAME}" in certificate.subject.rfc4514_string()
    key = machine.root / "etc/kubernetes/pki/kubelet.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "--node-ip=127.0.0.1" in machine.read("etc/default/kubelet")
    assert "sitewright.dev/blade=x1000c0s0" in machine.read("etc/default/kubelet")
    taints = json.loads(machine.read("var/lib/kubelet/config.yaml"))["registerWithTaints"]
    assert taints[0] == {"key": "only", "value": "batch", "effect": "NoSchedule"}
    assert taints[1] == {"key": "fragile", "value": "", "effect": "NoExecute"}


def test_a_label_that_a_kubelet_may_not_set_is_left_to_the_administrator(
    service: Bench, machine: Machine, next_second
):
    """A kubelet that is told of one does not start (k8s.io/kubelet pkg/apis/well_known_labels.go)."""
    own = {
        "sitewright.dev/pool": "gpu",
        "rack": "1",
        "node.kubernetes.io/instance-type": "gh200",
        "topology.kubernetes.io/zone": "a",
        "x.kubelet.kubernetes.io/y": "",
        "notkubernetes.io/z": "1",
        "kueue.x-k8s.io/z": "1",
    }
    others = {
        "node-role.kubernetes.io/gpu": "",
        "node-restriction.kubernetes.io/owner": "a",
        "b.k8s.io/b": "1",
        "kubernetes.io/c": "1",
        "scheduling.k8s.io/d": "1",
    }
    settings = json.loads(machine.settings.read_text())
    machine.settings.write_text(json.dumps({**settings, "labels": own | others}))
    service.boot(0)
    said = machine.join()
    flags = machine.read("etc/default/kubelet")
    assert all(f"{key}={value}" in flags for key, value in own.items())
    assert not any(key in flags for key in others)
    assert all(key in said for key in others) and "rack" not in said


def test_pods_get_what_the_site_file_has_for_them_however_much_memory_there_seems_to_be(
    service: Bench, machine: Machine, next_second
):
    service.boot(0)
    machine.join()
    assert machine.reserves() == 3 * GIB
    assert f"remount,size={2 * GIB} {machine.root}/var/lib/containerd" in machine.read("mounts")
    machine.has_memory(24 * GIB)
    machine.join()
    assert machine.reserves() == (24 - 4 - 1) * GIB
    machine.has_memory(7 * GIB)
    assert "1024 MiB less memory than its site file says" in machine.join()
    assert machine.reserves() == 3 * GIB


def test_again_with_other_settings_it_keeps_its_identity(service: Bench, machine: Machine, next_second):
    service.boot(0)
    machine.join()
    before = machine.read("etc/kubernetes/pki/kubelet.crt")
    settings = json.loads(machine.settings.read_text())
    machine.settings.write_text(
        json.dumps({**settings, "endpoint": "https://10.77.0.11:6443", "identity": []})
    )
    machine.join()
    assert machine.read("etc/kubernetes/pki/kubelet.crt") == before
    assert "https://10.77.0.11:6443" in machine.read("etc/kubernetes/kubelet.conf")


def test_of_two_control_planes_one_may_be_away(service: Bench, tmp_path: Path, next_second):
    service.boot(0)
    assert (
        "has its identity" in Machine(tmp_path, service, ["https://127.0.0.1:1", service.replicas[1]]).join()
    )


def test_a_node_waits_for_what_is_not_there_yet(
    service: Bench, machine: Machine, tmp_path: Path, next_second
):
    """Its boot is noted only later: it asks again, and says meanwhile what it waits for."""
    store = service.provisioner.store
    store.delete("bss-access", XNAME)
    log = tmp_path / "log"
    with process([sys.executable, str(PROGRAM)], log, machine.environment) as running:
        until(lambda: "fetched its boot script never" in log.read_text(), "it says what it waits for", 30)
        service.boot(0)
        assert running.wait(60) == 0
    assert f"{XNAME} has its identity" in log.read_text()


def test_it_trusts_its_cluster_only(service: Bench, machine: Machine, tmp_path: Path):
    settings = json.loads(machine.settings.read_text())
    other = (service.directory / "certs/apiserver.crt").read_text()
    machine.settings.write_text(json.dumps({**settings, "ca_certificate": other}))
    log = tmp_path / "log"
    with process([sys.executable, str(PROGRAM)], log, machine.environment):
        until(
            lambda: "CERTIFICATE_VERIFY_FAILED" in log.read_text(), "it refuses the other's certificate", 30
        )
    assert not (machine.root / "etc/kubernetes/pki/kubelet.key").exists()
