"""Who founds a cluster, who joins one, and when nobody may: the roles of both distributions, decided by Ansible
itself on this machine. What they do then is shown by tests/lab/test_control_planes.py."""

import functools
import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
NOBODY, SOMEBODY = "127.0.0.77", "127.0.0.78"
# Files that a machine of a cluster has, below its root where the role can be given one.
IN_CLUSTER = "var/lib/rancher/rke2/server/db"
PORTS = {"control_plane": 6443, "rke2_server": 9345}

ROLES = pytest.mark.parametrize("role", PORTS)


class Hosts:
    """Three machines of one case. inside: those in the cluster; lost: those that cannot be asked."""

    def __init__(
        self, tmp: Path, role: str, inside: str = "", lost: str = "", endpoint: str = NOBODY
    ) -> None:
        self._tmp, self._role, self._endpoint = tmp, role, endpoint
        self._inside, self._lost = inside.split(), lost.split()
        for name in self._inside:
            (tmp / name / IN_CLUSTER).mkdir(parents=True)
        self.run = self._play()

    def decided(self, name: str) -> str:
        """What the machine is about to do."""
        return (self._tmp / f"{name}.decided").read_text()

    def _play(self) -> subprocess.CompletedProcess[str]:
        hosts = {
            name: {
                "lost": name in self._lost,
                "rke2_server_root": f"{self._tmp}/{name}",
                # As the role's `stat` would find it.
                "control_plane_ready": {"stat": {"exists": name in self._inside}},
            }
            for name in ("cp1", "cp2", "cp3")
        }
        common = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "control_plane_endpoint": self._endpoint,
            "rke2_server_endpoint": self._endpoint,
            "rke2_server_files": {"server": "", "first_server": ""},
        }
        founds, contact = f"{self._role}_founds", f"{self._role}_contact"
        decision = f"{{{{ 'founds' if {founds} else 'through ' ~ {contact} }}}}"
        tasks = [
            {"ansible.builtin.fail": {"msg": "cannot be asked"}, "when": "lost"},
            {"ansible.builtin.include_role": {"name": self._role, "tasks_from": "membership"}},
            {
                "ansible.builtin.copy": {
                    "dest": f"{self._tmp}/{{{{ inventory_hostname }}}}.decided",
                    "content": decision,
                    "mode": "0600",
                }
            },
        ]
        (self._tmp / "inventory.yml").write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}))
        (self._tmp / "play.yml").write_text(
            yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}])
        )
        (self._tmp / "ansible.cfg").touch()
        settings = {
            "ANSIBLE_CONFIG": str(self._tmp / "ansible.cfg"),
            "ANSIBLE_ROLES_PATH": str(REPOSITORY / "playbooks/roles"),
            "ANSIBLE_NOCOLOR": "1",
        }
        program = Path(sys.executable).with_name("ansible-playbook")
        return subprocess.run(
            [program, "-i", "inventory.yml", "play.yml"],
            cwd=self._tmp,
            env=os.environ | settings,
            capture_output=True,
            text=True,
        )


class _Unauthorized(http.server.BaseHTTPRequestHandler):
    """What an API server says to somebody it does not know."""

    def do_GET(self) -> None:
        self.send_error(401)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test's output is for its failure."""


@pytest.fixture(scope="module", autouse=True)
def answering(tmp_path_factory) -> Iterator[None]:
    """Servers at one of the two addresses, with a certificate that nobody vouches for."""
    both = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", "/CN=api", "-keyout", both, "-out", both.with_name("crt")),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both.with_name("crt"), both)
    servers = [http.server.ThreadingHTTPServer((SOMEBODY, port), _Unauthorized) for port in PORTS.values()]
    for server in servers:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=functools.partial(server.serve_forever, 0.05), daemon=True).start()
    yield
    for server in servers:
        server.shutdown()
        server.server_close()


@ROLES
def test_the_first_of_three_empty_machines_founds_and_the_others_join_it(tmp_path, role):
    hosts = Hosts(tmp_path, role)
    assert hosts.run.returncode == 0, hosts.run.stdout
    assert hosts.decided("cp1") == "founds"
    assert hosts.decided("cp2") == hosts.decided("cp3") == "through cp1"


@ROLES
def test_a_first_machine_that_came_back_empty_joins_one_that_is_left(tmp_path, role):
    hosts = Hosts(tmp_path, role, inside="cp2 cp3", endpoint=SOMEBODY)
    assert hosts.run.returncode == 0, hosts.run.stdout
    assert hosts.decided("cp1") == "through cp2"


@ROLES
def test_it_joins_through_a_machine_that_can_be_asked(tmp_path, role):
    hosts = Hosts(tmp_path, role, inside="cp2 cp3", lost="cp2", endpoint=SOMEBODY)
    assert hosts.decided("cp1") == "through cp3"


@ROLES
def test_no_cluster_is_founded_while_a_machine_cannot_be_asked(tmp_path, role):
    hosts = Hosts(tmp_path, role, lost="cp2")
    assert hosts.run.returncode != 0
    assert "there may be one already: nothing is known of cp2." in hosts.run.stdout
    assert not list(tmp_path.glob("*.decided")), "somebody went on"


@ROLES
def test_no_cluster_is_founded_where_one_answers(tmp_path, role):
    hosts = Hosts(tmp_path, role, endpoint=SOMEBODY)
    assert hosts.run.returncode != 0
    said = f"there may be one already: a server answers at https://{SOMEBODY}:{PORTS[role]}."
    assert said in hosts.run.stdout
    assert not list(tmp_path.glob("*.decided")), "somebody went on"
