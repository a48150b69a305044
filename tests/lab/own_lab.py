"""A small lab of its own for tests that break one: other names, other ports, its own state directory, so that
it can come and go beside the lab that the other tests look at."""

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from lab.deploy import select_stack, variables
from lab.plan import LabPlan
from modules.machines.virtual_machine import VirtualMachineSpec
from modules.machines.virtual_machine import render as render_machine
from modules.machines.vm_image import VmImageSpec
from modules.machines.vm_image import render as render_image
from modules.machines.vm_network import VmNetworkSpec
from modules.machines.vm_network import render as render_network
from sitewright.site import Site, load
from stacks.access import image_checksum, ssh_public_key
from tests.lab.conftest import run
from tools.locate import tool

REPOSITORY = Path(__file__).parents[2]
SITEWRIGHT = REPOSITORY / ".venv/bin/sitewright"
PORT_OFFSET = 20000


@dataclass(frozen=True)
class Snapshot:
    """What of a lab is on this machine: everything that carries its name or lies in its directory."""

    processes: list[str]
    mounts: list[str]
    loops: list[str]
    namespaces: list[str]
    interfaces: list[str]
    cgroups: list[str]
    files: list[str]


@dataclass
class OwnLab:
    name: str
    directory: Path
    site: Site = field(init=False)

    def __post_init__(self) -> None:
        self.file = self.directory / f"{self.name}.yaml"
        self.state = self.directory / "state"
        self.file.write_text(self._site_file())
        self.site = load(self.file)

    @property
    def environment(self) -> dict[str, str]:
        others = {name: value for name, value in os.environ.items() if not name.startswith("SITEWRIGHT_LAB_")}
        return {**others, "SITEWRIGHT_LAB_NAME": self.name}

    def command(self, *arguments: str) -> list[str]:
        return [str(SITEWRIGHT), "lab", "--environment", str(self.file), *arguments]

    def run(
        self, *arguments: str, check: bool = True, timeout: float = 180
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """In the background, in a session of its own, its output kept in `<directory>/output`."""
        with (self.directory / "output").open("ab") as output:
            return subprocess.Popen(
                self.command(*arguments),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        kubeconfig = f"--kubeconfig={self.site.hypervisor.kubeconfig}"
        done = subprocess.run(
            [str(tool("kubectl")), kubeconfig, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"kubectl {arguments}: {done.stderr}"
        return done.stdout

    def start_machine(self, timeout: float = 60) -> str:
        """The site's first VM, made through the hypervisor's API as the modules make it. Returns its name once
        it runs."""
        image, network, vm = self.site.hypervisor.images[0], self.site.networks[0], self.site.vms[0]
        space = self.site.hypervisor.namespace
        image_spec = VmImageSpec(
            name=image.name, namespace=space, url=image.url, checksum=image_checksum(image)
        )
        network_spec = VmNetworkSpec(name=network.name, namespace=space, cidr=network.cidr)
        self.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}])
        self.apply([*render_image(image_spec), *render_network(network_spec)])
        storage_class = self.wait_for(
            lambda: self.get("virtualmachineimage", image_spec.object_name)["status"].get("storageClassName"),
            timeout,
        )
        machine = VirtualMachineSpec(
            name=vm.name,
            namespace=space,
            image=image_spec.id,
            network=f"{space}/{network.name}",
            cpus=vm.cpus,
            memory=vm.memory,
            disk=vm.disk,
            address=vm.address,
            prefix_length=vm.prefix_length,
            mac=vm.mac,
            ssh_keys=(ssh_public_key(self.site),),
        )
        self.apply(render_machine(machine, storage_class))
        self.wait_for(lambda: self.machine_state(vm.name) == "running", timeout)
        return vm.name

    def apply(self, manifests: list[dict]) -> None:
        self.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(manifests))

    def get(self, kind: str, name: str) -> dict:
        space = self.site.hypervisor.namespace
        found = json.loads(self.kubectl("get", kind, name, f"--namespace={space}", "--output=json"))
        return {"status": {}, **found}

    def machine_state(self, name: str) -> str:
        found = json.loads(self.run("status", "--json", check=False).stdout)
        return next((m["state"] for m in found["machines"] if m["name"] == name), "absent")

    @staticmethod
    def wait_for(condition, timeout: float):
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            assert time.monotonic() < deadline, "it did not become true in time"
            time.sleep(0.2)
        return found

    def processes(self, words: str = "") -> list[int]:
        """Processes of this lab whose command line contains the words."""
        return [pid for pid in _processes() if self._is_ours(pid) and words in _command_line(pid)]

    def snapshot(self) -> Snapshot:
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        devices = json.loads(_output("losetup", "--json", "--list") or '{"loopdevices": []}')["loopdevices"]
        links = json.loads(_output("ip", "-json", "link"))
        return Snapshot(
            processes=[f"{pid} {_command_line(pid)}" for pid in self.processes()],
            mounts=[mount for mount in mounts if self._names_us(mount)],
            loops=[d["back-file"] for d in devices if self._names_us(d["back-file"])],
            namespaces=[name for name in _output("ip", "netns").split() if self._names_us(name)],
            interfaces=sorted(link["ifname"] for link in links),
            cgroups=sorted(str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{self.name}*")),
            files=sorted(str(path) for path in self.directory.glob("state*")),
        )

    def _names_us(self, text: str) -> bool:
        return str(self.directory) in text or text.startswith(self.name) or f"/{self.name}" in text

    def _is_ours(self, pid: int) -> bool:
        try:
            process = Path(f"/proc/{pid}")
            said = [(process / name).read_bytes().decode(errors="replace") for name in ("cgroup", "environ")]
        except OSError:
            return False
        mark = f"SITEWRIGHT_LAB_NAME={self.name}"
        return (
            f"/{self.name}/" in said[0]
            or mark in said[1].split("\0")
            or str(self.state) in _command_line(pid)
        )

    def _site_file(self) -> str:
        text = (REPOSITORY / "environments/lab.yaml").read_text()
        text = text.replace("/var/lib/sitewright/lab", str(self.directory / "state"))
        text = text.replace("netns/sitewright-lab", f"netns/{self.name}")
        text = re.sub(r"(?m)^name: lab$", f"name: {self.name}", text)
        # Beside the other lab: no services, so nodes may be small.
        text = re.sub(r"(?ms)^services:$.*(?=^# Only for a lab)", "", text)
        text = text.replace("memory: 9Gi ", "memory: 3Gi ").replace(
            "image_store: 1700Mi ", "image_store: 256Mi "
        )
        return re.sub(r"\bport: (\d{5})}", lambda found: f"port: {int(found[1]) + PORT_OFFSET}}}", text)


class DeployedLab(OwnLab):
    """With its stack, and what that made."""

    @contextlib.contextmanager
    def deployed(self, timeout: float = 900) -> Iterator[None]:
        """Up, and nothing of it left afterwards. timeout: of the update, in seconds."""
        with pytest.MonkeyPatch.context() as changed:
            changed.setenv("SITEWRIGHT_LAB_NAME", self.name)
            changed.setenv("SITEWRIGHT_LAB_STATE_DIR", str(self.state))
            before = self.snapshot()
            try:
                self.run("up")
                self.select_stack()
                self.pulumi("up", "--yes", "--skip-preview", timeout=timeout)
                yield
            finally:
                self.run("down", check=False)
                (REPOSITORY / f"Pulumi.{self.name}.yaml").unlink(missing_ok=True)
            assert self.snapshot() == before

    def select_stack(self) -> None:
        plan = LabPlan.of(str(self.file))
        self.pulumi_environment = variables(plan)
        select_stack(plan, self.pulumi_environment)

    def pulumi(self, *arguments: str, timeout: float = 900) -> str:
        stack = ("--stack", self.name, "--non-interactive")
        return run("pulumi", *arguments, *stack, timeout=timeout, env=self.pulumi_environment).stdout

    @property
    def kubeconfig(self) -> Path:
        """Of the cluster `svc`, from the outputs of the stack."""
        file = self.directory / "svc.kubeconfig"
        if not file.exists():
            outputs = json.loads(self.pulumi("stack", "output", "--json", "--show-secrets"))
            file.touch(mode=0o600)
            file.write_text(outputs["kubeconfigs"]["svc"])
        return file

    def cluster(self, *arguments: str, server: str = "", check: bool = True) -> str:
        """kubectl, by way of the published address of the cluster. server: the address of one machine instead."""
        into = ["nsenter", f"--net=/run/netns/{self.name}"] if server else []
        to = [f"--server=https://{server}:6443"] if server else []
        command = [
            *into,
            "kubectl",
            f"--kubeconfig={self.kubeconfig}",
            "--request-timeout=20s",
            *to,
            *arguments,
        ]
        return run(*command, env=self.pulumi_environment, check=check).stdout


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
