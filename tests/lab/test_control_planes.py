"""Three control planes by kubeadm, in a lab of their own: what the loss of one does, and how it comes back."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
import yaml
from own_lab import DeployedLab

from lab import machine
from tests.lab.conftest import run
from tests.runbook import DIRECTORY, steps

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

NAMES = ["cp1", "cp2", "cp3"]
ADDRESSES = dict(zip(NAMES, ["10.77.0.10", "10.77.0.11", "10.77.0.12"], strict=True))
VIRTUAL_ADDRESS = "10.77.0.9"
ETCD = (
    "curl --silent --show-error --fail --max-time 20 --cacert /etc/kubernetes/pki/etcd/ca.crt"
    " --cert /etc/kubernetes/pki/etcd/server.crt --key /etc/kubernetes/pki/etcd/server.key"
    " --json '{}' https://127.0.0.1:2379/v3"
)


class ControlPlanes(DeployedLab):
    """The lab, its stack and its cluster."""

    def _site_file(self) -> str:
        state = str(self.directory / "state")
        ports = {"hypervisor": "10.77.0.1:7443", "registry": "10.77.0.1:5000"}
        ports["kubernetes"] = f"{VIRTUAL_ADDRESS}:6443"
        site = {
            "name": self.name,
            "networks": [{"name": "nodes", "cidr": "10.77.0.0/24", "node_offset": 64}],
            "hypervisor": {
                "kubeconfig": f"{state}/hypervisor.kubeconfig",
                "images": [
                    {
                        "name": "debian-12",
                        "url": "http://10.77.0.1:8080/vm/debian-12.squashfs",
                        "checksum_file": f"{state}/www/vm/SHA512SUMS",
                    }
                ],
            },
            "virtual_machines": [
                {"name": "cp[1-3]", "image": "debian-12", "network": "nodes", "cpus": 2, "memory": "2Gi"}
            ],
            "ssh": {
                "private_key": f"{state}/ssh/id_ed25519",
                "proxy_command": f"nsenter --net=/run/netns/{self.name} socat STDIO TCP:%h:%p",
            },
            "registry": {"endpoint": "http://10.77.0.1:5000"},
            "clusters": [
                {
                    "name": "svc",
                    "distribution": "kubeadm",
                    "version": "1.37.2",
                    "control_plane": "cp[1-3]",
                    "virtual_address": VIRTUAL_ADDRESS,
                    "pod_cidr": "10.78.0.0/16",
                    "service_cidr": "10.79.0.0/16",
                }
            ],
            "lab": {
                "state_dir": state,
                "publish": [
                    {"name": name, "to": [to], "port": 43000 + number}
                    for number, (name, to) in enumerate(ports.items())
                ],
            },
        }
        return yaml.safe_dump(site, sort_keys=False)

    def follow(self, runbook: str, number: int) -> None:
        """A step of a runbook, word for word but for the name of the stack."""
        text = (DIRECTORY / f"{runbook}.md").read_text()
        [step] = [step for step in steps(text) if step.number == number]
        assert "-s lab" in step.command
        command = step.command.replace("-s lab", f"--non-interactive --stack {self.name}")
        run("bash", "-c", command, env=self.pulumi_environment)

    def identity(self, server: str = "") -> str:
        """Of the cluster: what a cluster that was founded anew would have another of."""
        uid = "--output=jsonpath={.metadata.uid}"
        return self.cluster("get", "namespace", "kube-system", uid, server=server)

    def ready(self) -> list[str]:
        """Names of the nodes that are Ready."""
        rows = [
            line.split() for line in self.cluster("get", "nodes", "--no-headers", check=False).splitlines()
        ]
        return sorted(row[0] for row in rows if row[1] == "Ready")

    def members(self, through: str) -> dict[str, str]:
        """Name of each member of etcd that votes, and its number, as one of the machines knows them; none where
        it cannot be asked."""
        asked = self.run("ssh", through, f"{ETCD}/cluster/member/list", check=False)
        found = json.loads(asked.stdout)["members"] if asked.returncode == 0 else []
        return {member["name"]: member["ID"] for member in found if not member.get("isLearner")}

    def is_whole(self) -> bool:
        if self.ready() != NAMES:
            return False
        seen = [self.members(name) for name in NAMES]
        return sorted(seen[0]) == NAMES and seen[0] == seen[1] == seen[2]


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[ControlPlanes]:
    """Up, with the three of them."""
    made = ControlPlanes("swcp", tmp_path_factory.mktemp("lab"))
    with made.deployed():
        yield made


@contextlib.contextmanager
def asking(lab: ControlPlanes) -> Iterator[list[str]]:
    """Changes something in the cluster again and again. Gives what it was answered last where that did not succeed
    within 20 seconds. (An API server that starts refuses all until it has read who may do what.)"""
    failures: list[str] = []
    done = threading.Event()

    def ask(number: int) -> str:
        command = [
            *("kubectl", f"--kubeconfig={lab.directory}/svc.kubeconfig", "--request-timeout=10s"),
            *("annotate", "--overwrite", "namespace", "default", f"sitewright.dev/asked={number}"),
        ]
        asked = subprocess.run(command, env=lab.pulumi_environment, capture_output=True, text=True)
        return asked.stderr if asked.returncode else ""

    def go_on() -> None:
        for number in itertools.count():
            deadline = time.monotonic() + 20
            while (answer := ask(number)) and time.monotonic() < deadline:
                time.sleep(0.5)
            failures.extend([answer] if answer else [])
            if done.wait(0.5):
                return

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield failures
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def nobody_starts_machines(lab: ControlPlanes) -> Iterator[None]:
    """The hypervisor would start one that lost its power within seconds."""
    [controller] = lab.processes("-m lab.hypervisor")
    os.kill(controller, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(controller, signal.SIGCONT)


def test_three_machines_are_one_cluster(lab):
    lab.wait_for(lab.is_whole, 120)
    assert len({lab.identity(), *(lab.identity(server) for server in ADDRESSES.values())}) == 1


def test_a_second_update_changes_nothing(lab):
    lab.pulumi("preview", "--expect-no-changes")


def test_the_api_answers_while_a_control_plane_has_lost_its_power(lab):
    before = lab.members("cp2")
    with asking(lab) as failures:
        with nobody_starts_machines(lab):
            machine.kill("cp1")
            lab.wait_for(lambda: lab.ready() == ["cp2", "cp3"], 180)
            assert machine.state("cp1") == "stopped"
        lab.wait_for(lab.is_whole, 180)
    assert failures == []
    assert lab.members("cp1") == before


def test_a_deleted_first_machine_joins_the_others(lab):
    identity, before = lab.identity(), lab.members("cp2")
    space = lab.site.hypervisor.namespace
    with asking(lab) as failures:
        lab.kubectl("delete", f"--namespace={space}", "vm", "cp1", "--cascade=foreground", "--timeout=50s")
        lab.follow("control-plane-vm-gone", 7)
        lab.wait_for(lab.is_whole, 180)
    assert failures == []
    after = lab.members("cp2")
    assert {name for name in NAMES if after[name] != before[name]} == {"cp1"}
    assert {lab.identity(server) for server in ADDRESSES.values()} == {identity}, "a second cluster"
    lab.pulumi("preview", "--expect-no-changes")


def test_a_machine_that_an_update_replaces_is_in_the_cluster_after_it(lab):
    identity, before = lab.identity(), lab.members("cp1")
    resources = json.loads(lab.pulumi("stack", "export"))["deployment"]["resources"]
    [urn] = [
        found["urn"] for found in resources if found["urn"].endswith("kubevirt.io/v1:VirtualMachine::cp3")
    ]
    lab.pulumi("up", "--replace", urn, "--yes", "--skip-preview")
    lab.wait_for(lab.is_whole, 180)
    after = lab.members("cp1")
    assert {name for name in NAMES if after[name] != before[name]} == {"cp3"}
    assert {lab.identity(server) for server in ADDRESSES.values()} == {identity}, "a second cluster"


def test_a_refresh_finds_nothing_more(lab):
    lab.pulumi("refresh", "--yes", "--skip-preview")
    lab.pulumi("preview", "--expect-no-changes")
