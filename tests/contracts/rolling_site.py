"""A pool of two diskless nodes for tests of their life: the real API server, the lab's provisioner and BMCs.

A machine that is switched on boots what the provisioner's boot script says, and its Node says so. No more than that is
played here; a join is a playbook of the test's checkout.
"""

import json
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kubernetes import client, config

from lab.bmc import ipxe, server
from lab.bmc.driver import Board, NodeSystems
from sitewright.provisioning.openchami import Boot
from sitewright.provisioning.openchami_http import Services
from sitewright.site import load
from tests.contracts.fake_hypervisor import api_server, free_ports, until
from tests.contracts.pools import Pool, PoolClient, publish
from tests.contracts.test_provisioner import Provisioner
from tests.contracts.typing_operator import REPOSITORY, Operator

FIRST, SECOND = "x1000c0s0b0n0", "x1000c0s0b1n0"
OLD, NEW = "a" * 64, "b" * 64
URL = "http://10.77.0.1:8080/boot"
INVENTORY = """#!/bin/sh
cat <<'EOF'
{"_meta": {"hostvars": {}}, "pool_gpu": {"hosts": ["%s", "%s"]}}
EOF
"""
JOIN = """
- hosts: all:!localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    booted: "{{ lookup('ansible.builtin.file', '%s/' ~ inventory_hostname ~ '.json') | from_json }}"
  tasks:
    - name: Wait until the node is Ready
      kubernetes_node_ready:
        node: "{{ inventory_hostname }}"
        kubeconfig: "{{ kubeconfig }}"
        labels: "{{ labels }}"
        taints: "{{ taints }}"
        boot_id: "{{ booted.boot_id }}"
        since: "{{ booted.since }}"
        timeout: 5
"""
CHECK = """
- hosts: all:!localhost
  connection: local
  gather_facts: false
  tasks:
    - name: The node is well
      ansible.builtin.assert:
        that: "not lookup('ansible.builtin.fileglob', '%s/' ~ inventory_hostname ~ '.sick')"
        fail_msg: a fever
"""


class Machine:
    """The power of a node, and what it boots. pressed: the buttons, and on what they were pressed.

    stuck: it boots nothing when it is switched on.
    """

    def __init__(self, xname: str, mac: str, bss: str, directory: Path) -> None:
        self.xname, self.mac, self._bss, self._record = xname, mac, bss, directory / f"{xname}.json"
        self.state, self.stuck = "Off", False
        self.pressed: list[str] = []

    def on(self) -> None:
        self.pressed.append("on")
        self.state = "On"
        if not self.stuck:
            self._boot()

    def off(self) -> None:
        self.state = "Off"
        try:
            node = client.CoreV1Api().read_node(self.xname)
        except client.ApiException:
            self.pressed.append("off, not in the cluster")
            return
        self.pressed.append("off" if node.spec.unschedulable else "off, not cordoned")
        self.say("Unknown", node.status.node_info.boot_id)

    def _boot(self) -> None:
        address = f"{self._bss}/boot/v1/bootscript?mac={self.mac}"
        script = ipxe.parse(httpx.get(address, trust_env=False).text, address)
        image = script.argument("root").split("/")[-2]
        since = int(time.time())
        record = {"image": image, "boot_id": str(uuid.uuid4()), "since": since}
        self._record.write_text(json.dumps(record))
        with suppress(client.ApiException):
            client.CoreV1Api().create_node({"metadata": {"name": self.xname}})
            client.CoreV1Api().patch_node(self.xname, {"spec": {"taints": None}})
        self.say("True", record["boot_id"])
        annotations = {
            "sitewright.dev/boot-image": f"sha256:{image}",
            "sitewright.dev/boot-id": record["boot_id"],
        }
        client.CoreV1Api().patch_node(self.xname, {"metadata": {"annotations": annotations}})

    def say(self, ready: str, boot_id: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        condition = {
            "type": "Ready",
            "status": ready,
            "reason": "Test",
            "message": "",
            "lastHeartbeatTime": now,
        }
        fields = ("machineID", "systemUUID", "kernelVersion", "osImage", "containerRuntimeVersion")
        fields = (*fields, "kubeletVersion", "kubeProxyVersion", "operatingSystem", "architecture")
        info = {**dict.fromkeys(fields, "test"), "bootID": boot_id}
        status = {"status": {"conditions": [condition], "nodeInfo": info}}
        client.CoreV1Api().patch_node_status(self.xname, status)


class RollingSite:
    """The checkout of an operator (`root`), and the site that its file `lab` describes."""

    def __init__(self, root: Path, kubeconfig: Path, provisioner: Provisioner) -> None:
        self.root, self.kubeconfig, self._provisioner = root, kubeconfig, provisioner
        self.images, self.machines_directory = root / "images", root / "machines"
        self.machines_directory.mkdir()
        [self._bmc_port] = free_ports(1)
        self._certificate = self._make_certificate()
        self._write_checkout()
        self._write_images()
        self.site = load(root / "environments/lab.yaml")
        bss = provisioner.urls["bss"]
        self.machines = {
            node.xname: Machine(node.xname, node.mac, bss, self.machines_directory)
            for node in self.site.nodes
        }
        self._serve_bmcs()
        self.operator = Operator(root, kubeconfig)

    def declare(self, image: str, pool: str = "gpu", xnames: tuple[str, ...] = (FIRST, SECOND)) -> None:
        """As `pulumi up` does it. image: OLD or NEW."""
        nodes = [asdict(node) for node in self.site.nodes if node.xname in xnames]
        place = f"{URL}/{image}"
        arguments = [f"root=live:{place}/rootfs.squashfs", f"sitewright.root=sha256:{image}", "quiet"]
        boot = Boot(f"{place}/vmlinuz", f"{place}/initramfs.img", arguments)
        self.openchami().declare(Pool(pool, "svc", nodes, boot, "#cloud-config\n"))

    def openchami(self) -> PoolClient:
        urls = self._provisioner.urls
        return PoolClient(Services(urls["smd"], urls["bss"], urls["cloud-init"]))

    def up(self, image: str = OLD) -> None:
        """Both nodes are declared, run the image, and are in the cluster; no roll is known."""
        shutil.rmtree(self.root / ".sitewright", ignore_errors=True)
        for file in self.machines_directory.iterdir():
            file.unlink()
        self.declare(image)
        for name, machine in self.machines.items():
            machine.stuck = False
            with suppress(client.ApiException):
                client.CoreV1Api().delete_node(name)
            self.restart(name)

    def restart(self, name: str) -> str:
        """It boots what is declared and joins, without anybody's hand. Returns: its boot id."""
        machine = self.machines[name]
        machine.on()
        machine.pressed.clear()
        record = json.loads((self.machines_directory / f"{name}.json").read_text())
        return str(record["boot_id"])

    def pressed(self) -> dict[str, list[str]]:
        return {name: machine.pressed for name, machine in self.machines.items()}

    def runs(self) -> dict[str, str]:
        """By node: image, and `cordoned` or `NotReady` if it is."""
        found = {}
        for node in client.CoreV1Api().list_node().items:
            image = (node.metadata.annotations or {}).get("sitewright.dev/boot-image", "").partition(":")[2]
            what = {OLD: "old", NEW: "new"}.get(image, "unknown")
            ready = {one.type: one.status for one in node.status.conditions}["Ready"] == "True"
            more = [*(["cordoned"] if node.spec.unschedulable else []), *([] if ready else ["NotReady"])]
            found[node.metadata.name] = " ".join([what, *more])
        return found

    def boots(self) -> dict[str, str]:
        """The image that the provisioner has for each node; "" for none."""
        kernels = {f"{URL}/{OLD}/vmlinuz": "old", f"{URL}/{NEW}/vmlinuz": "new", "": ""}
        return {name: kernels[one.kernel] for name, one in self.openchami().known().items()}

    def script(self, name: str) -> str:
        """The boot script that the provisioner has for a node."""
        mac = self.machines[name].mac
        address = f"{self._provisioner.urls['bss']}/boot/v1/bootscript?mac={mac}"
        return httpx.get(address, trust_env=False).text

    def sick(self, name: str, is_sick: bool = True) -> None:
        file = self.machines_directory / f"{name}.sick"
        file.touch() if is_sick else file.unlink()

    def _write_checkout(self) -> None:
        text = (REPOSITORY / "environments/lab.yaml").read_text()
        document = yaml.safe_load(text.replace("/var/lib/sitewright/lab", str(self.root)))
        document["image_server"]["publish_dir"] = str(self.images)
        # Its images are names without content, which nobody could have signed.
        del document["image_server"]["signing_key"]
        bmcs = ["10.77.0.160:8443", "10.77.0.161:8443"]
        publish(document, self._provisioner.urls, {"name": "bmcs", "to": bmcs, "port": self._bmc_port})
        for directory in ("environments", "playbooks/library", "playbooks/inventory"):
            (self.root / directory).mkdir(parents=True)
        (self.root / "environments/lab.yaml").write_text(yaml.safe_dump(document))
        shutil.copy(
            REPOSITORY / "playbooks/library/kubernetes_node_ready.py", self.root / "playbooks/library"
        )
        inventory = self.root / "playbooks/inventory/site.py"
        inventory.write_text(INVENTORY % (FIRST, SECOND))
        inventory.chmod(0o755)
        (self.root / "playbooks/join-nodes.yml").write_text(JOIN % self.machines_directory)
        (self.root / "playbooks/check-nodes.yml").write_text(CHECK % self.machines_directory)
        (self.root / "bmc.password").write_text("right\n")

    def _write_images(self) -> None:
        for digest in (OLD, NEW):
            (self.images / digest).mkdir(parents=True)
            manifest: dict[str, Any] = {
                "name": "compute",
                "kernel": "6.1.0",
                "kernel_arguments": ["quiet"],
                "files": {"rootfs.squashfs": digest},
                "sizes": {"rootfs.squashfs": 1},
                "packages": [],
            }
            (self.images / digest / "manifest.json").write_text(json.dumps(manifest))

    def _make_certificate(self) -> tuple[Path, Path]:
        certificate, key = self.root / "bmc-ca.crt", self.root / "bmc.key"
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]
        command += ["-days", "2", "-subj", "/CN=bmc", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        return certificate, key

    def _serve_bmcs(self) -> None:
        boards = [Board(node, self.machines[node.xname]) for node in self.site.nodes]  # type: ignore[arg-type]
        passwords = server.write_password_file(self.root / "htpasswd", "admin", "right")
        self._listener = server.listen("127.0.0.1", self._bmc_port)
        app = server.emulator(NodeSystems(boards), passwords, self.root)
        self._https = server.https_server(app, self._listener, *self._certificate)
        threading.Thread(target=self._https.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.operator.close()
        self._https.shutdown()
        self._listener.close()


@contextmanager
def rolling_site(directories: pytest.TempPathFactory) -> Iterator[RollingSite]:
    database = directories.mktemp("provisioner") / "provisioner.db"
    with api_server(directories.mktemp("api")) as kubeconfig, Provisioner(database) as provisioner:
        config.load_kube_config(str(kubeconfig))
        api = client.CoreV1Api()
        until(
            lambda: "kube-system" in {one.metadata.name for one in api.list_namespace().items}, "kube-system"
        )
        # What the controller manager would write.
        authority = {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "a certificate"}}
        api.create_namespaced_config_map("kube-system", authority)
        made = RollingSite(directories.mktemp("checkout"), kubeconfig, provisioner)
        try:
            yield made
        finally:
            made.close()
