"""The role rke2_server, run for real on this machine below a temporary root: what it writes, accepts and refuses.

RKE2 itself cannot run here; its installer and its program are stand-ins of three lines.
"""

import functools
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from modules.kubernetes_cluster import KubernetesClusterSpec, render_rke2

REPOSITORY = Path(__file__).parents[2]
CASE = REPOSITORY / "tests/data/rke2_role/three-servers"
SERVERS = ("cp1", "cp2", "cp3")
CONFIGURATION = Path("etc/rancher/rke2")
DATA = Path("var/lib/rancher/rke2/server/db")
TARBALL = "rke2.linux-amd64.tar.gz"
LIST = "sha256sum-amd64.txt"
INSTALLER = """
mkdir -p "$INSTALL_RKE2_TAR_PREFIX/bin"
echo 'echo "rke2 version v1.37.2+rke2r1 (0123abc)"' > "$INSTALL_RKE2_TAR_PREFIX/bin/rke2"
sed -i '1i #!/bin/sh' "$INSTALL_RKE2_TAR_PREFIX/bin/rke2" && chmod +x "$INSTALL_RKE2_TAR_PREFIX/bin/rke2"
echo "$INSTALL_RKE2_TYPE $INSTALL_RKE2_METHOD $(ls "$INSTALL_RKE2_ARTIFACT_PATH")" > "$INSTALL_RKE2_TAR_PREFIX/ran"
"""
TOKEN, AGENT_TOKEN = "canary-of-the-servers-0123456789", "canary-of-the-agents-0123456789"


class Role:
    """Machines that are directories below `tmp`, and the role's variables for them."""

    def __init__(self, tmp: Path):
        self.tmp = tmp
        spec = KubernetesClusterSpec.model_validate(yaml.safe_load((CASE / "spec.yaml").read_text()))
        self.variables = {
            "rke2_server_version": spec.version,
            "rke2_server_artifacts": spec.artifacts,
            "rke2_server_files": render_rke2(spec),
            "rke2_server_token": TOKEN,
            "rke2_server_agent_token": AGENT_TOKEN,
            "rke2_server_endpoint": str(spec.endpoint),
            "rke2_server_root": f"{tmp}/{{{{ inventory_hostname }}}}",
        }

    def run(self, part: str, *options: str, servers=SERVERS) -> subprocess.CompletedProcess:
        role = {"name": "rke2_server", "tasks_from": part}
        return self.play([{"ansible.builtin.include_role": role}], *options, servers=servers)

    def play(self, tasks: list, *options: str, servers=SERVERS) -> subprocess.CompletedProcess:
        play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
        (self.tmp / "play.yml").write_text(json.dumps([play]))
        (self.tmp / "variables.yml").write_text(json.dumps(self.variables))
        local = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
        (self.tmp / "inventory").write_text("".join(f"{server} {local}\n" for server in servers))
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        arguments = ["-i", "inventory", "play.yml", "-e", "@variables.yml", *options]
        set_up = {"ANSIBLE_ROLES_PATH": str(REPOSITORY / "playbooks/roles"), "ANSIBLE_NOCOLOR": "1"}
        set_up |= {
            "ANSIBLE_SHOW_CUSTOM_STATS": "1",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
        }
        return subprocess.run(
            [program, *arguments], cwd=self.tmp, env=os.environ | set_up, capture_output=True, text=True
        )

    def written(self, server: str) -> dict[str, str]:
        """Texts of the configuration files of a server, by name."""
        return {path.name: path.read_text() for path in (self.tmp / server / CONFIGURATION).iterdir()}


@pytest.fixture
def role(tmp_path):
    return Role(tmp_path)


@pytest.fixture
def mirror(tmp_path):
    """A mirror with one release."""
    release = tmp_path / "mirror" / "v1.37.2+rke2r1"
    release.mkdir(parents=True)
    (release / "install.sh").write_text(INSTALLER)
    (release / TARBALL).write_text("an archive")
    names = ("install.sh", TARBALL)
    lines = [f"{hashlib.sha256((release / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (release / LIST).write_text("".join(lines))
    return release


def changed(run: subprocess.CompletedProcess) -> int:
    assert run.returncode == 0, run.stdout + run.stderr
    return sum(map(int, re.findall(r"changed=(\d+)", run.stdout)))


def refusal(run: subprocess.CompletedProcess) -> str:
    assert run.returncode != 0, run.stdout
    return " ".join((run.stdout + run.stderr).split())


class Watcher(threading.Thread):
    """Reads the command lines and environments of all processes for as long as it is entered."""

    def __enter__(self):
        self.seen: set[bytes] = set()
        self.done = threading.Event()
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()

    def run(self):
        while not self.done.is_set():
            for path in [*Path("/proc").glob("[0-9]*/cmdline"), *Path("/proc").glob("[0-9]*/environ")]:
                try:
                    self.seen.add(path.read_bytes())
                except OSError:  # it has ended, or is another user's
                    continue
            time.sleep(0.01)


def test_the_files_are_the_recorded_ones_and_a_second_run_changes_nothing(role):
    assert changed(role.run("configure.yml")) > 0
    for server in SERVERS:
        recorded = {path.name: path.read_text() for path in (CASE / server).iterdir()}
        assert role.written(server) == recorded | {"token": TOKEN, "agent-token": AGENT_TOKEN}
        modes = {path.stat().st_mode & 0o777 for path in (role.tmp / server / CONFIGURATION).iterdir()}
        assert modes == {0o600}
    assert changed(role.run("configure.yml")) == 0


def test_no_token_is_in_an_argument_an_environment_or_the_log(role):
    with Watcher() as watcher:
        run = role.run("configure.yml", "-vvv", "--diff", servers=["cp1"])
    assert changed(run) > 0
    assert any(b"ansible-playbook" in text for text in watcher.seen)
    assert "config.yaml" in run.stdout
    for text in (run.stdout, run.stderr, *(seen.decode(errors="replace") for seen in watcher.seen)):
        assert TOKEN not in text and AGENT_TOKEN not in text


def test_a_first_server_that_lost_its_disk_joins_the_others_and_stays_a_member(role):
    (role.tmp / "cp2" / DATA).mkdir(parents=True)
    role.run("configure.yml")
    assert role.written("cp1") == role.written("cp2")
    (role.tmp / "cp1" / DATA).mkdir(parents=True)
    assert changed(role.run("configure.yml")) == 0


def test_another_token_is_refused_by_a_server_that_has_data(role):
    assert changed(role.run("configure.yml", servers=["cp1"])) > 0
    (role.tmp / "cp1" / DATA).mkdir(parents=True)
    role.variables["rke2_server_token"] = "another"
    run = role.run("configure.yml", servers=["cp1"])
    assert "cp1 has data of a cluster with another token" in refusal(run)
    assert role.written("cp1")["token"] == TOKEN


@pytest.mark.parametrize("name", ["rke2_server_token", "rke2_server_agent_token"])
def test_a_token_that_is_missing_is_named(role, name):
    del role.variables[name]
    run = role.run("configure.yml", servers=["cp1"])
    assert f"missing required arguments: {name}" in refusal(run)
    assert "canary" not in run.stdout + run.stderr
    assert not (role.tmp / "cp1").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rke2_server_version", "1.37.2", "1.37.2 is no release of RKE2"),
        ("rke2_server_version", "v1.37.2+rke2r1", "v1.37.2+rke2r1 is no release of RKE2"),
        ("rke2_server_artifacts", "", "No mirror of RKE2 is named (nothing is neither"),
        ("rke2_server_artifacts", "mirror/rke2", "No mirror of RKE2 is named (mirror/rke2 is neither"),
    ],
)
def test_bad_input_is_refused_before_anything_is_done(role, name, value, message):
    role.variables[name] = value
    assert message in refusal(role.run("main.yml", servers=["cp1"]))
    assert not (role.tmp / "cp1").exists()


def test_the_installer_runs_on_the_artifacts_and_what_it_installs_is_recognised(role, mirror):
    role.variables["rke2_server_artifacts"] = str(mirror.parent)
    assert changed(role.run("install.yml", servers=["cp1"])) > 0
    ran = (role.tmp / "cp1/usr/local/ran").read_text().split()
    assert ran == ["server", "tar", "install.sh", TARBALL, LIST]
    assert not (role.tmp / "cp1/var/cache/rke2/v1.37.2+rke2r1").exists()
    found = {"ansible.builtin.debug": {"var": "rke2_server_is_installed"}}
    installed = {"ansible.builtin.include_role": {"name": "rke2_server", "tasks_from": "installed.yml"}}
    assert '"rke2_server_is_installed": true' in role.play([installed, found], servers=["cp1"]).stdout
    assert '"rke2_server_is_installed": false' in role.play([installed, found], servers=["cp2"]).stdout


def test_artifacts_come_by_http(role, mirror):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=mirror.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        role.variables["rke2_server_artifacts"] = f"http://127.0.0.1:{server.server_port}/"
        assert changed(role.run("artifacts.yml", servers=["cp1"])) > 0
        server.shutdown()
    there = role.tmp / "cp1/var/cache/rke2/v1.37.2+rke2r1"
    assert (there / TARBALL).read_text() == "an archive"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda mirror: (mirror / TARBALL).write_text("half an ar"),
            f"{TARBALL} of RKE2 1.37.2+rke2r1 is not",
        ),
        (lambda mirror: (mirror / LIST).write_text(""), "expected none, the list does not name it"),
        (lambda mirror: (mirror / TARBALL).unlink(), f"Could not find or access '{{0}}/{TARBALL}'"),
    ],
    ids=["wrong checksum", "not listed", "missing"],
)
def test_an_artifact_that_is_not_the_released_one_is_refused(role, mirror, spoil, message):
    spoil(mirror)
    role.variables["rke2_server_artifacts"] = str(mirror.parent)
    assert message.format(mirror) in refusal(role.run("install.yml", servers=["cp1"]))
    assert not (role.tmp / "cp1/usr").exists()


def test_the_hand_over_points_the_kubeconfig_to_where_the_operator_reaches_it(role):
    (role.tmp / "rke2.yaml").write_text("clusters: [{cluster: {\nserver: https://127.0.0.1:6443\n}}]\n")
    (role.tmp / "server-ca.crt").write_text("a certificate\n")
    role.variables |= {
        "hand_over_kubeconfig": str(role.tmp / "rke2.yaml"),
        "hand_over_ca": str(role.tmp / "server-ca.crt"),
        "endpoint_address": "10.100.0.100",
        "operator_server": "https://api.example.org:6443",
    }
    tasks = {"ansible.builtin.import_tasks": str(REPOSITORY / "playbooks/tasks/hand-over-cluster.yml")}
    run = role.play([tasks], servers=["cp1"])
    stats = json.loads(re.search(r"RUN: (\{.*\})", run.stdout, re.DOTALL)[1])
    assert yaml.safe_load(stats["kubeconfig"])["clusters"][0]["cluster"] == {
        "server": "https://api.example.org:6443"
    }
    assert stats["endpoint"] == "https://10.100.0.100:6443"
    assert stats["ca_certificate"] == "a certificate\n"
