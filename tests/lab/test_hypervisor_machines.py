"""The hypervisor with real machines, in a lab of its own: what the contract tests' pretended host cannot show."""

import os
import signal
import subprocess
import time
from pathlib import Path

import own_lab
import pytest
from own_lab import OwnLab

from lab import machine as lab_machine
from lab.hypervisor.conditions import holds

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(own_lab, "PORT_OFFSET", 21000)  # beside the other labs of the tests
        made = OwnLab("swhyper", tmp_path_factory.mktemp("lab"))
        changed.setenv("SITEWRIGHT_LAB_NAME", made.name)
        changed.setenv("SITEWRIGHT_LAB_STATE_DIR", str(made.state))
        try:
            made.run("up")
            yield made
        finally:
            made.run("down", check=False)


@pytest.fixture
def machine(lab):
    """The lab's VM, up and answering."""
    name = lab.start_machine()
    lab.wait_for(lambda: holds(lab.get("vm", name), "AgentConnected"), 60)
    return name


def init(name: str) -> int:
    """The machine's process 1, by its number outside."""
    pid = lab_machine.init_pid(name)
    assert pid is not None, f"{name} is off"
    return pid


def inside(name: str, *command: str) -> str:
    done = subprocess.run(lab_machine.enter(name, *command), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def annotate(lab: OwnLab, name: str, text: str) -> None:
    space = lab.site.hypervisor.namespace
    lab.kubectl("annotate", "--overwrite", f"--namespace={space}", "vm", name, text)


def patch(lab: OwnLab, name: str, change: str) -> None:
    space = lab.site.hypervisor.namespace
    lab.kubectl("patch", f"--namespace={space}", "vm", name, "--type=merge", f"--patch={change}")


def instance_uid(lab: OwnLab, name: str) -> str:
    """Of the run that goes on; empty between two."""
    space, uid = lab.site.hypervisor.namespace, "jsonpath={.metadata.uid}"
    return lab.kubectl("get", f"--namespace={space}", "vmi", name, "--ignore-not-found", f"--output={uid}")


def test_the_machine_is_what_its_manifest_says(lab, machine):
    vm = lab.site.vms[0]
    assert inside(machine, "hostname").strip() == vm.name
    assert vm.mac in inside(machine, "ip", "link", "show", "host0")
    assert vm.address in inside(machine, "ip", "-4", "addr", "show", "host0")
    assert "done" in inside(machine, "cloud-init", "status", "--wait")
    [interface] = lab.get("vmi", machine)["status"]["interfaces"]
    assert (interface["ipAddress"], interface["mac"]) == (vm.address, vm.mac)


def test_a_killed_controller_leaves_machines_alone_and_finds_them_again(lab, machine):
    before, uid = init(machine), instance_uid(lab, machine)
    [controller] = lab.processes("-m lab.hypervisor")
    os.kill(controller, signal.SIGKILL)
    lab.wait_for(lambda: lab.processes("-m lab.hypervisor") not in ([], [controller]), 30)
    # It is back at work: a change is followed.
    annotate(lab, machine, "sitewright.dev/touched=yes")
    patch(lab, machine, '{"spec": {"template": {"spec": {"hostname": "other"}}}}')
    lab.wait_for(lambda: holds(lab.get("vm", machine), "RestartRequired"), 30)
    assert init(machine) == before and instance_uid(lab, machine) == uid


def test_files_outlive_a_crash(lab, machine):
    inside(machine, "sh", "-c", "echo kept > /root/file; echo kept > /var/lib/etcd/file; sync")
    uid = instance_uid(lab, machine)
    os.kill(init(machine), signal.SIGKILL)
    started = time.monotonic()
    lab.wait_for(lambda: lab_machine.init_pid(machine), 30)
    lab.wait_for(lambda: instance_uid(lab, machine) not in ("", uid), 30)
    lab.wait_for(lambda: holds(lab.get("vm", machine), "AgentConnected"), 60)
    assert time.monotonic() - started < 45
    assert inside(machine, "cat", "/root/file", "/var/lib/etcd/file") == "kept\nkept\n"


def test_a_shutdown_from_inside_stays_one_and_a_restart_request_starts_it(lab, machine):
    inside(machine, "systemctl", "poweroff")
    lab.wait_for(lambda: lab.get("vm", machine)["status"]["printableStatus"] == "Stopped", 60)
    time.sleep(3)
    assert lab_machine.state(machine) == "stopped"
    annotate(lab, machine, "sitewright.dev/restart=2026-01-01T00:00:00Z")
    lab.wait_for(lambda: holds(lab.get("vm", machine), "AgentConnected"), 60)


def test_halted_shuts_down_cleanly(lab, machine):
    patch(lab, machine, '{"spec": {"runStrategy": "Halted"}}')
    lab.wait_for(lambda: lab.get("vm", machine)["status"]["printableStatus"] == "Stopped", 60)
    console = (lab.state / "machines" / machine / "console.log").read_text(errors="replace")
    assert "Power" in console.splitlines()[-1] or "Reached target" in console
    patch(lab, machine, '{"spec": {"runStrategy": "RerunOnFailure"}}')
    lab.wait_for(lambda: holds(lab.get("vm", machine), "AgentConnected"), 60)


def test_the_idle_controller_takes_less_than_two_hundredths_of_a_core(lab, machine):
    [controller] = lab.processes("-m lab.hypervisor")
    time.sleep(3)
    before = processor_seconds(controller)
    time.sleep(15)
    assert (processor_seconds(controller) - before) / 15 < 0.02


def test_a_deleted_machine_leaves_nothing(lab, machine):
    space = lab.site.hypervisor.namespace
    lab.kubectl("delete", f"--namespace={space}", "vm", machine, "--cascade=foreground", "--timeout=60s")
    assert lab_machine.state(machine) == "stopped"
    left = lab.snapshot()
    assert not [mount for mount in left.mounts if f"/machines/{machine}" in mount]
    assert not [name for name in left.namespaces if name.endswith(machine)]
    assert not list((lab.state / "hypervisor/volumes").glob("*/*"))
    assert not (lab.state / "machines" / machine).exists()
    assert lab.kubectl("get", f"--namespace={space}", "vm,vmi,pvc", "--output=name") == ""


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
