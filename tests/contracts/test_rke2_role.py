"""The role rke2_server, run for real on this machine below a temporary root: what it writes, accepts and refuses.

RKE2 itself cannot run here: its installer and its program are stand-ins of a few lines, its service is never
started. To keep the tests quick, Ansible runs twice only: once through the life of two servers, and once over
one host per case of good and bad input.
"""

import contextlib
import functools
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from modules.clusters.kubernetes_cluster import KubernetesClusterSpec, render_rke2

REPOSITORY = Path(__file__).parents[2]
RECORDED = REPOSITORY / "tests/data/rke2_role"
SPEC = KubernetesClusterSpec.model_validate(yaml.safe_load((RECORDED / "spec.yaml").read_text()))
SERVERS = {"cp1": "first_server", "cp2": "server"}
CONFIGURATION = "etc/rancher/rke2"
DATA = "var/lib/rancher/rke2/server/db"
ARTIFACTS = f"var/cache/rke2/v{SPEC.version}"
TARBALL, CHECKSUMS = "rke2.linux-amd64.tar.gz", "sha256sum-amd64.txt"
TOKEN, AGENT_TOKEN = "canary-of-the-servers-0123456789", "canary-of-the-agents-0123456789"

INSTALLER = f"""
mkdir -p "$INSTALL_RKE2_TAR_PREFIX/bin" && cd "$INSTALL_RKE2_TAR_PREFIX/bin"
printf '#!/bin/sh\\necho "rke2 version v{SPEC.version} (0123abc)"\\n' > rke2 && chmod +x rke2
echo $INSTALL_RKE2_TYPE $INSTALL_RKE2_METHOD $(ls "$INSTALL_RKE2_ARTIFACT_PATH") > installed-from
"""


def play(tmp: Path, plays: list[dict], hosts: dict[str, dict], *options: str) -> subprocess.CompletedProcess:
    """Run plays on this machine, each host below its own root. hosts: what differs from the good variables."""
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "rke2_server_version": SPEC.version,
        "rke2_server_artifacts": SPEC.artifacts,
        "rke2_server_files": render_rke2(SPEC),
        "rke2_server_token": TOKEN,
        "rke2_server_agent_token": AGENT_TOKEN,
        "rke2_server_endpoint": str(SPEC.endpoint),
    }
    variables = {
        host: {key: value for key, value in (common | own).items() if value is not None}
        | {"rke2_server_root": str(tmp / host)}
        for host, own in hosts.items()
    }
    (tmp / "ansible.cfg").touch()
    (tmp / "inventory.yml").write_text(json.dumps({"all": {"hosts": variables}}))
    (tmp / "plays.yml").write_text(
        json.dumps([{"hosts": "all", "gather_facts": False, **one} for one in plays])
    )
    settings = {
        "ANSIBLE_CONFIG": str(tmp / "ansible.cfg"),
        "ANSIBLE_ROLES_PATH": str(REPOSITORY / "playbooks/roles"),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SHOW_CUSTOM_STATS": "1",
    }
    program = Path(sys.executable).with_name("ansible-playbook")
    return subprocess.run(
        [program, "-i", "inventory.yml", "plays.yml", *options],
        cwd=tmp,
        env=os.environ | settings,
        capture_output=True,
        text=True,
    )


def role(part: str) -> dict:
    return {"ansible.builtin.include_role": {"name": "rke2_server", "tasks_from": part}}


def programs(part: str) -> dict:
    """A part of what servers and nodes have in common, told as the role of the servers tells it."""
    told = {name: f"{{{{ rke2_server_{name} }}}}" for name in ("version", "artifacts", "root")}
    return {
        "ansible.builtin.include_role": {"name": "rke2_install", "tasks_from": part},
        "vars": {f"rke2_install_{name}": value for name, value in (told | {"type": "server"}).items()},
    }


def texts(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


class Watcher(threading.Thread):
    """Reads the command lines and environments of the processes that start while it is entered."""

    def __enter__(self):
        self.seen: set[bytes] = set()
        self.before = set(Path("/proc").glob("[0-9]*"))
        self.done = threading.Event()
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()

    def run(self):
        while not self.done.wait(0.05):
            for process in set(Path("/proc").glob("[0-9]*")) - self.before:
                # A process may end while it is looked at.
                with contextlib.suppress(OSError):
                    self.seen |= {(process / name).read_bytes() for name in ("cmdline", "environ")}


class Life:
    """Two servers: configured, configured again after the first one lost its disk, and again after it joined."""

    def __init__(self, tmp: Path):
        self.tmp = tmp
        with Watcher() as watcher:
            run = play(tmp, self._plays(), {server: {} for server in SERVERS}, "-vvv", "--diff")
        assert run.returncode == 0, run.stdout
        self.processes = watcher.seen
        self.log = run.stdout + run.stderr
        self.stages = dict(re.findall(r"\nPLAY \[(.+?)\].*?\n(.*?)(?=\nPLAY )", run.stdout, re.DOTALL))

    def _plays(self) -> list[dict]:
        root = f"{self.tmp}/{{{{ inventory_hostname }}}}"

        def configured(stage: str) -> dict:
            copy = f"cp -a {root}/{CONFIGURATION} {self.tmp}/{stage}-{{{{ inventory_hostname }}}}"
            keep = {"ansible.builtin.command": copy, "changed_when": False}
            return {"name": stage, "tasks": [role("configure"), keep]}

        def disks(host: str, command: str) -> dict:
            return {"name": f"disks of {host}", "hosts": host, "tasks": [{"ansible.builtin.shell": command}]}

        return [
            configured("new"),
            disks("cp2", f"mkdir -p {root}/{DATA}"),
            disks("cp1", f"rm -r {root}"),
            configured("lost"),
            disks("cp1", f"mkdir -p {root}/{DATA}"),
            configured("joined") | {"hosts": "cp1"},
        ]

    def written(self, stage: str, server: str) -> dict[str, str]:
        return texts(self.tmp / f"{stage}-{server}")

    def changed(self, stage: str) -> set[str]:
        return set(re.findall(r"^changed: \[(\w+)\]", self.stages[stage], re.MULTILINE))


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    return Life(tmp_path_factory.mktemp("life"))


@pytest.mark.parametrize("server", SERVERS)
def test_the_files_are_the_recorded_ones(life, server):
    recorded = texts(RECORDED / SERVERS[server]) | {"token": TOKEN, "agent-token": AGENT_TOKEN}
    assert life.written("new", server) == recorded
    assert {path.stat().st_mode & 0o777 for path in (life.tmp / f"new-{server}").iterdir()} == {0o600}


def test_a_second_run_changes_nothing(life):
    assert life.changed("new") == {"cp1", "cp2"}
    assert life.changed("lost") == {"cp1"}, "a second run for cp2"
    assert life.changed("joined") == set()


def test_a_first_server_that_lost_its_disk_joins_the_others_and_stays_a_member(life):
    assert life.written("lost", "cp1") == life.written("new", "cp2")
    assert life.written("joined", "cp1") == life.written("lost", "cp1")


def test_no_token_is_in_an_argument_an_environment_or_the_log(life):
    assert any(b"ansible-playbook" in text for text in life.processes)
    assert "tls-san" in life.log, "the differences of files are in the log"
    for text in (life.log, *(seen.decode(errors="replace") for seen in life.processes)):
        assert TOKEN not in text and AGENT_TOKEN not in text


BAD_INPUT = {
    "no-token": (
        {"part": "configure", "rke2_server_token": None},
        "missing required arguments: rke2_server_token",
    ),
    "no-agent-token": (
        {"part": "main", "rke2_server_agent_token": None},
        "missing required arguments: rke2_server_agent_token",
    ),
    "no-release": ({"part": "main", "rke2_server_version": "1.37.2"}, "1.37.2 is no release of RKE2"),
    "with-a-v": (
        {"part": "main", "rke2_server_version": "v1.37.2+rke2r1"},
        "v1.37.2+rke2r1 is no release of RKE2",
    ),
    "no-mirror": ({"part": "main", "rke2_server_artifacts": ""}, "No mirror of RKE2 is named (nothing is"),
    "no-path": (
        {"part": "main", "rke2_server_artifacts": "mirror/rke2"},
        "No mirror of RKE2 is named (mirror/rke2 is",
    ),
}
BAD_MIRRORS = {
    "half": (
        lambda release: (release / TARBALL).write_text("an arch"),
        f"{TARBALL} of RKE2 {SPEC.version} is not",
    ),
    "unlisted": (
        lambda release: (release / CHECKSUMS).write_text(""),
        "expected none, the list does not name it",
    ),
    "gone": (lambda release: (release / TARBALL).unlink(), "Could not find or access '{release}/" + TARBALL),
}


def mirror(directory: Path) -> Path:
    """A mirror with one release, whose directory is returned."""
    release = directory / f"v{SPEC.version}"
    release.mkdir(parents=True)
    contents = {"install.sh": INSTALLER, TARBALL: "an archive"}
    lines = (f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in contents.items())
    for name, text in {**contents, CHECKSUMS: "".join(lines)}.items():
        (release / name).write_text(text)
    return release


class Cases:
    """One host per case; what became of it."""

    def __init__(self, tmp: Path):
        self.tmp = tmp
        hosts = {name: variables for name, (variables, _) in BAD_INPUT.items()}
        for name, (spoil, _) in BAD_MIRRORS.items():
            spoil(mirror(tmp / "mirrors" / name))
            hosts[name] = {"part": "install", "rke2_server_artifacts": f"{tmp}/mirrors/{name}"}
        good = mirror(tmp / "mirrors" / "good").parent
        hosts["good"] = {"part": "install", "rke2_server_artifacts": str(good)}
        hosts["other-token"] = {"part": "configure"}
        (tmp / "other-token" / DATA).mkdir(parents=True)
        (tmp / "other-token" / CONFIGURATION).mkdir(parents=True)
        (tmp / "other-token" / CONFIGURATION / "token").write_text("the old one")

        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=good)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}/"
            hosts["by-http"] = {"part": "artifacts", "rke2_server_artifacts": url}
            show = {"ansible.builtin.debug": {"msg": "installed: {{ rke2_install_is_installed }}"}}
            parts = {part: role(part) for part in ("main", "configure")}
            parts |= {part: programs(part) for part in ("install", "artifacts")}
            tasks = [task | {"when": f"part == '{part}'"} for part, task in parts.items()]
            plays = [{"tasks": tasks}, {"hosts": "good:by-http", "tasks": [programs("installed"), show]}]
            self.log = play(tmp, plays, hosts).stdout
            server.shutdown()

    def said(self, host: str) -> str:
        """The lines of the log about a host."""
        return "\n".join(line for line in self.log.splitlines() if f"[{host}]" in line)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return Cases(tmp_path_factory.mktemp("cases"))


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused_before_anything_is_done(cases, case):
    assert BAD_INPUT[case][1] in cases.said(case)
    assert "canary" not in cases.said(case)
    assert not (cases.tmp / case).exists()


@pytest.mark.parametrize("case", BAD_MIRRORS)
def test_an_artifact_that_is_not_the_released_one_is_not_installed(cases, case):
    release = cases.tmp / "mirrors" / case / f"v{SPEC.version}"
    assert BAD_MIRRORS[case][1].format(release=release) in cases.said(case)
    assert not (cases.tmp / case / "usr").exists()


def test_the_installer_gets_the_artifacts_and_what_it_installs_is_recognised(cases):
    installed = (cases.tmp / "good/usr/local/bin/installed-from").read_text().split()
    assert installed == ["server", "tar", "install.sh", TARBALL, CHECKSUMS]
    assert not (cases.tmp / "good" / ARTIFACTS).exists()
    assert re.search(r"ok: \[good\] => \{\s*\"msg\": \"installed: True", cases.log)


def test_artifacts_come_by_http(cases):
    assert set(texts(cases.tmp / "by-http" / ARTIFACTS)) == {"install.sh", TARBALL, CHECKSUMS}
    assert re.search(r"ok: \[by-http\] => \{\s*\"msg\": \"installed: False", cases.log)


def test_another_token_is_refused_by_a_server_that_has_data(cases):
    assert "other-token has data of a cluster with another token" in cases.said("other-token")
    assert texts(cases.tmp / "other-token" / CONFIGURATION) == {"token": "the old one"}


def test_the_hand_over_points_the_kubeconfig_to_where_the_operator_reaches_it(tmp_path):
    (tmp_path / "rke2.yaml").write_text("clusters:\n- cluster:\n    server: https://127.0.0.1:6443\n")
    (tmp_path / "server-ca.crt").write_text("a certificate\n")
    variables = {
        "hand_over_kubeconfig": str(tmp_path / "rke2.yaml"),
        "hand_over_ca": str(tmp_path / "server-ca.crt"),
        "endpoint_address": "10.100.0.100",
        "operator_server": "https://api.example.org:6443",
    }
    tasks = {"ansible.builtin.import_tasks": str(REPOSITORY / "playbooks/tasks/hand-over-cluster.yml")}
    log = play(tmp_path, [{"tasks": [tasks]}], {"cp1": variables}).stdout
    stats = json.loads(log.partition("RUN: ")[2])
    assert yaml.safe_load(stats["kubeconfig"]) == {
        "clusters": [{"cluster": {"server": "https://api.example.org:6443"}}]
    }
    assert stats["endpoint"] == "https://10.100.0.100:6443"
    assert stats["ca_certificate"] == "a certificate\n"
