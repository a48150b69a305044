"""A node of an RKE2 cluster that boots, against the real service: what rke2-agent starts with, and where it does not.

Only the program `rke2` is a stand-in, which says its version; the agent itself never runs here.
"""

import hashlib
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modules.nodes.node_join import NodeMemory, Rke2Join, settings
from tests.contracts.fake_hypervisor import process, until
from tests.contracts.identity_bench import AGENT_TOKEN, Bench, bench, node
from tests.contracts.test_node_join_program import GIB, PROGRAM, Machine

RECORDED = Path(__file__).parents[1] / "data/rke2_role/agent"
XNAME = node(0).xname
VERSION = "1.37.2+rke2r1"
MEMORY = NodeMemory(allocatable=4 * GIB, reserved=3 * GIB, eviction=GIB, image_store=2 * GIB, pod_files=GIB)
MOUNTS = {"/": "overlay", "/var/lib/rancher": "tmpfs", "/var/lib/kubelet": "tmpfs"}
SECRETS = ("etc/rancher/node/password", "etc/rancher/rke2/agent-token")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("identity"), rke2=True) as made:
        made.declare("gpu", 0)
        yield made


class Agent(Machine):
    """A node whose image has RKE2 of this version, and whose cluster says that it has VERSION."""

    def __init__(self, root: Path, service: Bench, version: str = VERSION) -> None:
        super().__init__(root, service, service.replicas)
        text = settings(
            "https://10.100.0.100:6443",
            (service.directory / "ca.crt").read_text(),
            service.replicas,
            "10.43.0.10",
            {"sitewright.dev/pool": "gpu", "node-role.kubernetes.io/gpu": ""},
            ["only=batch:NoSchedule", "fragile:NoExecute"],
            MEMORY,
            Rke2Join(version=VERSION, server="https://10.100.0.100:9345", registry="https://10.100.0.5"),
        )
        self.settings.write_text(text)
        self.has_version(version)
        self.has_mounted(MOUNTS)

    def has_version(self, version: str) -> None:
        program = self.root / "usr/local/bin/rke2"
        program.write_text(f'#!/bin/sh\necho "rke2 version v{version} (0123abc)"\necho "go version go1.26"\n')
        program.chmod(0o755)

    def has_mounted(self, kinds: dict[str, str]) -> None:
        lines = (f"{kind} {path} {kind} rw,relatime 0 0\n" for path, kind in kinds.items())
        (self.root / "proc/mounts").write_text("".join(lines))

    def refuses(self) -> str:
        command = [sys.executable, str(PROGRAM)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert not (self.root / "etc/kubernetes/pki/kubelet.key").exists()
        assert not (self.root / "etc/rancher").exists()
        return done.stderr


@pytest.fixture
def next_second() -> None:
    """The provisioner counts in seconds: a boot in the same second is the same boot."""
    time.sleep(1.1)


@pytest.fixture
def agent(tmp_path: Path, service: Bench) -> Agent:
    return Agent(tmp_path, service)


def configuration(agent: Agent, name: str) -> Any:
    """A file of the node without the directory that stands for its root, as RKE2 reads it."""
    return yaml.safe_load(agent.read(f"etc/rancher/rke2/{name}").replace(str(agent.root), ""))


def test_the_files_are_the_recorded_ones(service: Bench, agent: Agent, next_second):
    service.boot(0)
    assert f"{XNAME} has its identity" in agent.join()
    for name in ("config.yaml", "registries.yaml", "kubelet.yaml"):
        text = yaml.safe_dump(configuration(agent, name), sort_keys=True)
        if os.environ.get("UPDATE_GOLDEN"):
            (RECORDED / name).write_text(text)
        assert text == (RECORDED / name).read_text()
    assert f"remount,size={2 * GIB} {agent.root}/var/lib/rancher" in agent.read("mounts")
    assert not (agent.root / "var/lib/kubelet/config.yaml").exists()


def test_token_and_password_are_for_root_only_and_in_no_other_file(service: Bench, agent: Agent, next_second):
    service.boot(0)
    said = agent.join()
    password, token = (agent.read(path).strip() for path in SECRETS)
    for path in (*SECRETS, "etc/rancher/rke2/config.yaml"):
        assert stat.S_IMODE((agent.root / path).stat().st_mode) == 0o600
    authority = (service.directory / "ca.crt").read_bytes()
    assert token == f"K10{hashlib.sha256(authority).hexdigest()}::node:{AGENT_TOKEN}"
    files = [file for file in agent.root.rglob("*") if file.is_file()]
    for secret in (password, AGENT_TOKEN):
        assert secret not in said
        assert [str(file.relative_to(agent.root)) for file in files if secret in file.read_text()] == [
            path for path in SECRETS if secret in agent.read(path)
        ]


def test_the_password_is_the_same_after_the_next_boot(service: Bench, tmp_path: Path, next_second):
    """RKE2 refuses the name with another one: its Secret <node>.node-password.rke2 is of the first boot."""
    found = []
    for boot in ("first", "second"):
        agent = Agent(tmp_path / boot, service)
        service.boot(0)
        agent.join()
        found.append(agent.read(SECRETS[0]))
        time.sleep(1.1)  # the provisioner counts in seconds
    assert found[0] == found[1]


def test_a_join_that_is_run_again_needs_nobody(service: Bench, agent: Agent, next_second):
    service.boot(0)
    agent.join()
    before = [agent.read(path) for path in SECRETS]
    told = json.loads(agent.settings.read_text())
    agent.settings.write_text(json.dumps({**told, "labels": {"rack": "2"}, "identity": []}))
    agent.join()
    assert [agent.read(path) for path in SECRETS] == before
    assert "rack=2" in configuration(agent, "config.yaml")["node-label"]


def test_a_token_that_is_not_there_yet_is_waited_for(
    service: Bench, agent: Agent, tmp_path: Path, next_second
):
    file = service.directory / "rke2/agent-token"
    file.write_text("")
    service.boot(0)
    log = tmp_path / "log"
    try:
        with process([sys.executable, str(PROGRAM)], log, agent.environment) as running:
            until(lambda: "the service has no agent-token" in log.read_text(), "it says what is missing", 30)
            assert not (agent.root / "etc/rancher").exists(), "the agent does not start"
            file.write_text(AGENT_TOKEN)
            assert running.wait(60) == 0
    finally:
        file.write_text(AGENT_TOKEN)


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ({"/": "overlay", "/var/lib/kubelet": "tmpfs"}, "no memory is mounted at /var/lib/rancher"),
        ({"/": "overlay", "/var/lib/rancher": "tmpfs"}, "no memory is mounted at /var/lib/kubelet"),
        ({**MOUNTS, "/var/lib/rancher": "nfs4"}, "no memory is mounted at /var/lib/rancher"),
        ({**MOUNTS, "/var/lib/rancher": "overlay"}, "on the root, of type overlay"),
    ],
    ids=["images-on-the-root", "pods-on-the-root", "nfs", "overlay"],
)
def test_on_an_overlay_without_memory_it_says_so_before_it_asks_for_anything(
    agent: Agent, kinds: dict[str, str], said: str
):
    agent.has_mounted(kinds)
    assert said in agent.refuses()


@pytest.mark.parametrize("version", ["1.38.0+rke2r1", "1.33.9+rke2r1", "2.0.0+rke2r1", "nothing"])
def test_a_release_that_does_not_go_with_the_clusters_is_refused(agent: Agent, version: str):
    agent.has_version(version)
    assert "RKE2" in (said := agent.refuses())
    assert VERSION in said


@pytest.mark.parametrize("version", ["1.37.9+rke2r4", "1.34.0+rke2r1"])
def test_a_release_that_goes_with_the_clusters_is_taken(
    service: Bench, agent: Agent, version: str, next_second
):
    agent.has_version(version)
    service.boot(0)
    agent.join()


def test_an_image_without_rke2_is_refused(agent: Agent):
    (agent.root / "usr/local/bin/rke2").unlink()
    assert "no release of RKE2: 'nothing' in the image" in agent.refuses()


def test_an_authority_of_several_certificates_is_refused(agent: Agent):
    """The hash in the token would be another one."""
    told = json.loads(agent.settings.read_text())
    agent.settings.write_text(json.dumps({**told, "ca_certificate": 2 * told["ca_certificate"]}))
    assert "the authority of the cluster is not one certificate" in agent.refuses()
