"""A pool that shrinks, under the real engine, with the real playbook, Kubernetes API and kubectl."""

from __future__ import annotations

import http.server
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sitewright.provisioning.openchami import EXCLUSIVE, Group
from sitewright.provisioning.openchami_http import Services
from tests.contracts.fake_hypervisor import api_server
from tests.contracts.pools import Pool, PoolClient
from tests.contracts.test_openchami import GPU, node
from tests.contracts.test_provisioner import Provisioner
from tests.engine.playbook_project import Project, wait_for
from tools.locate import tool

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

REPOSITORY = Path(__file__).parents[2]
PARTS = (
    *("release-nodes.yml", "tasks/remove.yml", "tasks/power.yml"),
    *("library/openchami_forget.py", "library/openchami_others.py", "library/node_power.py"),
)
STAYS, LEAVES = "x1000c0s0b0n0", "x1000c0s0b1n0"
INVENTORY = "#!/bin/sh\ncat <<'EOF'\n{}\nEOF\n"


class Bmcs(http.server.ThreadingHTTPServer):
    """The BMCs of both nodes, which are on. broken: it answers 503. pressed: (xname, button, what was there then)."""

    def __init__(self, site: Site, certificate: tuple[Path, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _BmcRequest)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*certificate)
        self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.site, self.broken = site, False
        self.state = {STAYS: "On", LEAVES: "On"}
        self.pressed: list[tuple[str, str, tuple[bool, bool]]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _BmcRequest(http.server.BaseHTTPRequestHandler):
    server: Bmcs

    def do_GET(self) -> None:
        xname = self.path.removeprefix("/redfish/v1/Systems").strip("/")
        if not xname:
            self._send(
                {"Members": [{"@odata.id": f"/redfish/v1/Systems/{name}"} for name in self.server.state]}
            )
            return
        reset = {"target": f"{self.path}/Actions/ComputerSystem.Reset"}
        state = {"Id": xname, "PowerState": self.server.state[xname]}
        self._send({**state, "Actions": {"#ComputerSystem.Reset": reset}})

    def do_POST(self) -> None:
        xname = self.path.removeprefix("/redfish/v1/Systems/").partition("/")[0]
        button = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["ResetType"]
        site = self.server.site
        self.server.pressed.append((xname, button, (xname in site.nodes(), xname in site.components())))
        self.server.state[xname] = "Off"
        self._send({})

    def _send(self, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(503 if self.server.broken else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test's output is for its failure."""


class Site:
    """A pool of two nodes that are joined, on and declared, and the stack that knows them."""

    def __init__(self, folder: Path, kubeconfig: Path, provisioner: Provisioner) -> None:
        self._kubeconfig, urls = kubeconfig, provisioner.urls
        self._services = Services(urls["smd"], urls["bss"], urls["cloud-init"])
        PoolClient(self._services).declare(GPU)
        self.store, self.project = provisioner.store, Project(folder)
        self.bmcs = Bmcs(self, _certificate(folder))
        for part in PARTS:
            target = folder / "playbooks" / part
            target.parent.mkdir(exist_ok=True)
            shutil.copy(REPOSITORY / "playbooks" / part, target)
        (folder / "password").write_text("secret")
        for xname in (STAYS, LEAVES):
            self.kubectl(
                "create",
                "-f",
                "-",
                stdin=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": xname}}),
            )
            self.kubectl("create", "-f", "-", stdin=json.dumps(_pod(xname)))
        self.has(STAYS, LEAVES)

    def has(self, *xnames: str) -> None:
        """What the site file says of the pool."""
        groups = {"pool_gpu": {"hosts": xnames}}
        self.project.write("playbooks/inventory/site.py", INVENTORY.format(json.dumps(groups))).chmod(0o755)
        url = f"https://127.0.0.1:{self.bmcs.server_port}"
        variables = {
            "pool": "gpu",
            "nodes": {
                n["xname"]: {
                    "xname": n["xname"],
                    "bmc": n["bmc"],
                    "mac": n["mac"],
                    "power": {"xname": n["xname"], "url": url},
                }
                for n in (node(0), node(1))
                if n["xname"] in xnames
            },
            "kubeconfig": self._kubeconfig.read_text(),
            **{name: getattr(self._services, name) for name in ("smd", "bss")},
            "bmc_username": "root",
            "bmc_password_file": str(self.project.root / "password"),
            "bmc_ca_file": str(self.project.root / "tls.crt"),
        }
        playbook = "playbooks/release-nodes.yml"
        release = {"playbook": playbook, "undo": playbook, "environment": "lab", "variables": variables}
        self.project.declare(**{"release-gpu": release})

    def lend(self, xname: str, group: str) -> None:
        client = PoolClient(self._services)
        client.declare_group(Group(group, "the batch system", EXCLUSIVE))
        client.hand_over(xname, group)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        command = [str(tool("kubectl")), f"--kubeconfig={self._kubeconfig}", *arguments]
        return subprocess.run(command, input=stdin, check=True, capture_output=True, text=True).stdout

    def nodes(self) -> set[str]:
        return {name.removeprefix("node/") for name in self.kubectl("get", "nodes", "-o", "name").split()}

    def pods(self) -> set[str]:
        return {name.removeprefix("pod/") for name in self.kubectl("get", "pods", "-o", "name").split()}

    def components(self) -> set[str]:
        return {entry["ID"] for entry in self.store.all("smd-component")}

    def differences(self, pool: Pool) -> list[str]:
        return PoolClient(self._services, check=True).declare(pool)

    def where(self) -> dict[str, set[str]]:
        on = {xname for xname, state in self.bmcs.state.items() if state == "On"}
        return {"joined": self.nodes(), "with pods": self.pods(), "on": on, "declared": self.components()}


def _certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "tls.crt", folder / "tls.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=bmc", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def _pod(xname: str) -> dict[str, Any]:
    """A pod on a node. No kubelet is there to end it, so it asks for no time to end."""
    containers = [{"name": "sleep", "image": "registry/sleep"}]
    spec = {"nodeName": xname, "terminationGracePeriodSeconds": 0, "containers": containers}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": xname}, "spec": spec}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    cluster, folder = tmp_path / "cluster", tmp_path / "site"
    cluster.mkdir()
    folder.mkdir()
    with api_server(cluster) as kubeconfig, Provisioner(tmp_path / "provisioner.db") as provisioner:
        made = _when_served(folder, kubeconfig, provisioner)
        yield made
        made.bmcs.shutdown()
        made.bmcs.server_close()


def _when_served(folder: Path, kubeconfig: Path, provisioner: Provisioner) -> Site:
    command = [str(tool("kubectl")), f"--kubeconfig={kubeconfig}", "get", "namespace", "default"]
    wait_for(lambda: subprocess.run(command, capture_output=True).returncode == 0, "the API server serves")
    return Site(folder, kubeconfig, provisioner)


def everywhere(*xnames: str) -> dict[str, set[str]]:
    return {where: set(xnames) for where in ("joined", "with pods", "on", "declared")}


def test_a_node_that_leaves_its_pool_is_released_and_the_others_are_not_touched(site: Site) -> None:
    site.project.up()
    assert site.where() == everywhere(STAYS, LEAVES)

    site.has(STAYS)
    [step] = site.project.preview().values()
    assert set(step["detailedDiff"]) == {f"variables.nodes.{LEAVES}"}
    assert step["detailedDiff"][f"variables.nodes.{LEAVES}"]["kind"] == "delete"

    site.bmcs.broken = True
    assert f"{LEAVES}" in site.project.up(ok=False)
    assert site.nodes() == {STAYS} and site.components() == {STAYS, LEAVES}
    site.bmcs.broken = False
    site.project.up()  # the interrupted release goes on
    assert site.where() == everywhere(STAYS)
    out_of_the_cluster_and_still_declared = (False, True)
    assert site.bmcs.pressed == [(LEAVES, "ForceOff", out_of_the_cluster_and_still_declared)]
    assert "unschedulable" not in json.loads(site.kubectl("get", "node", STAYS, "-o", "json"))["spec"]
    assert site.differences(Pool("gpu", "svc", [node(0)], GPU.boot, GPU.cloud_config)) == []
    assert site.project.operations() == {"release-gpu": "same"}

    site.has(STAYS, LEAVES)  # a pool that grows
    site.project.up()
    assert site.where() == everywhere(STAYS)
    assert len(site.bmcs.pressed) == 1


def test_a_node_that_another_owner_has_by_now_is_left_alone(site: Site) -> None:
    site.project.up()
    site.lend(LEAVES, "slurm")
    site.has(STAYS)
    site.project.up()
    assert site.bmcs.pressed == []
    assert site.components() == {STAYS, LEAVES} and site.nodes() == {STAYS, LEAVES}


def test_a_release_that_failed_is_finished_when_the_pool_is_destroyed(site: Site) -> None:
    """What is still in the pool is undone by the runs that made it."""
    site.project.up()
    site.has(STAYS)
    site.bmcs.broken = True
    site.project.up(ok=False)
    site.bmcs.broken = False
    site.project.pulumi("destroy", "--yes", "--skip-preview", "--stack", "lab")
    assert site.where() == everywhere(STAYS)
