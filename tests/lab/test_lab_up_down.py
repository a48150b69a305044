"""`sitewright lab` from nothing to nothing, on a lab of its own (own_lab.py)."""

import json
import os
import re
import socket
import subprocess
from pathlib import Path

import httpx
import pytest
from own_lab import SITEWRIGHT, OwnLab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

SERVICES = [
    "etcd",
    "hypervisor-api",
    "hypervisor-collector",
    "hypervisor",
    "image-server",
    "registry",
    "dhcp",
    "provisioner",
    "publish",
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = OwnLab("swupdown", tmp_path_factory.mktemp("lab"))
    made.before = made.snapshot()
    yield made
    made.run("down", check=False)


@pytest.fixture(scope="module")
def running(lab):
    lab.run("up")
    return lab


@pytest.fixture(scope="module")
def machine(running):
    return running.start_machine()


def status(lab: OwnLab) -> dict:
    return json.loads(lab.run("status", "--json", check=False).stdout)


def pids(lab: OwnLab) -> dict[str, int]:
    return {service["name"]: service["pid"] for service in status(lab)["services"]}


def test_a_port_in_use_stops_it_before_anything_is_made(lab):
    port = lab.site.lab.publish[2].port
    with socket.create_server(("127.0.0.1", port)):
        done = lab.run("up", check=False)
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1, wanted for {lab.site.lab.publish[2].name}, is taken by " in done.stderr
    assert f"(process {os.getpid()})" in done.stderr
    assert lab.snapshot() == lab.before


def test_too_little_memory_and_disk_stop_it_and_it_says_how_much(lab):
    text, small = lab.file.read_text(), lab.directory / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", small], check=True)
    try:
        lab.file.write_text(
            text.replace("memory: 2Gi ", "memory: 4000Gi ").replace(str(lab.state), f"{small}/state")
        )
        done = lab.run("up", check=False)
    finally:
        subprocess.run(["umount", small], check=True)
        lab.file.write_text(text)
    assert done.returncode == 1
    assert re.search(
        r"memory: \d+\.\d GiB are available, \d{4,}\.\d GiB are needed \(3 machines", done.stderr
    )
    assert f"disk: 1.0 GiB are free below {small}, 16.0 GiB are needed" in done.stderr
    assert lab.snapshot() == lab.before


def test_every_service_runs(running):
    found = status(running)
    assert found["state"] == "up"
    names = {service["name"] for service in found["services"]}
    assert names == {*SERVICES, "bmc-x1000c0s0b0", "bmc-x1000c0s0b1"}


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("hypervisor", "https://127.0.0.1:{}/readyz"),
        ("registry", "http://127.0.0.1:{}/v2/"),
        ("image-server", "http://127.0.0.1:{}/healthz"),
        ("bmc-x1000c0s0b0", "https://127.0.0.1:{}/redfish/v1/"),
    ],
)
def test_published_services_answer_on_loopback(running, name, url):
    port = next(entry.port for entry in running.site.lab.publish if entry.name == name)
    assert httpx.get(url.format(port), verify=False, trust_env=False).status_code == 200


def test_nothing_listens_on_the_hosts_other_addresses(running):
    host = Path("/proc/self/ns/net").readlink()
    outside = [pid for pid in running.processes() if Path(f"/proc/{pid}/ns/net").readlink() == host]
    assert outside, "haproxy is outside"
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    ours = [line for line in listening.splitlines() if any(f"pid={pid}," in line for pid in outside)]
    addresses = {line.split()[3].rpartition(":")[0] for line in ours}
    assert addresses == {"127.0.0.1"}


def test_the_images_checksum_is_right(running):
    www = running.state / "www/vm"
    subprocess.run(
        ["sha512sum", "--check", "--strict", "SHA512SUMS"], cwd=www, check=True, capture_output=True
    )


def test_a_second_up_leaves_everything_alone(running):
    before = pids(running)
    running.run("up")
    assert pids(running) == before


def test_a_changed_port_restarts_what_reads_it_and_nothing_else(running):
    before, text = pids(running), running.file.read_text()
    port = running.site.lab.publish[-1].port
    running.file.write_text(text.replace(f"port: {port}}}", f"port: {port + 1}}}"))
    running.run("up")
    after = pids(running)
    changed = {name for name in before if after[name] != before[name]}
    running.file.write_text(text)
    running.run("up")
    # The provisioner and the BMCs read the whole site file.
    assert changed == {"publish", "provisioner", "bmc-x1000c0s0b0", "bmc-x1000c0s0b1"}


def test_power_is_switched_through_the_bmc(running):
    assert nodes_power(running, "status")["before"] == "Off"
    assert nodes_power(running, "off", "--yes")["sent"] == "-"


def nodes_power(lab: OwnLab, *action: str) -> dict[str, str]:
    command = [str(SITEWRIGHT), "nodes", "power", str(lab.file), "x1000c0s0b0n0", *action]
    done = subprocess.run(command, env=lab.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    _, before, after, sent, *_ = done.stdout.splitlines()[1].split()
    return {"before": before, "after": after, "sent": sent}


def test_a_command_runs_on_a_machine(running, machine):
    done = running.wait_for(lambda: _succeeds(running, "ssh", machine, "hostname; cat /proc/1/comm"), 30)
    assert done.stdout == f"{machine}\nsystemd\n"


def test_the_status_of_a_command_on_a_machine_is_handed_on(running, machine):
    assert running.run("ssh", machine, "exit 7", check=False).returncode == 7


def test_a_machine_sees_its_own_network_and_its_own_limits(running, machine):
    seen = running.run(
        "ssh", machine, "ls /sys/class/net; cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
    ).stdout
    assert seen.split() == ["host0", "lo", str(running.site.vms[0].memory)]


def test_a_machine_has_no_way_out(running, machine):
    done = running.run("ssh", machine, "ip route get 192.0.2.1 && ping -c1 -W1 192.0.2.1", check=False)
    assert done.returncode != 0


def test_the_console_of_a_machine_can_be_read(running, machine):
    assert "Reached target" in running.run("logs", machine, "--lines", "500").stdout


def test_a_lab_that_was_kept_comes_back_with_its_disks(running, machine):
    running.run("ssh", machine, "echo precious > /root/file && sync")
    running.run("down", "--keep")
    assert running.snapshot().processes == []
    running.run("up")
    running.wait_for(lambda: running.machine_state(machine) == "running", 60)
    done = running.wait_for(lambda: _succeeds(running, "ssh", machine, "cat /root/file"), 60)
    assert done.stdout == "precious\n"


def test_down_leaves_nothing(running, machine):
    running.run("down")
    assert running.snapshot() == running.before


def test_down_of_nothing_is_no_error(lab):
    assert "Nothing of the lab is left." in lab.run("down").stdout


def test_a_lab_that_is_down_says_so(lab):
    done = lab.run("status", check=False)
    assert (done.returncode, done.stdout.splitlines()[0]) == (3, "The lab is down.")
    done = lab.run("ssh", "x1000c0s0b0n0", check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def _succeeds(lab: OwnLab, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    done = lab.run(*arguments, check=False)
    return done if done.returncode == 0 else None
