"""The inventory that Ansible gets is the plan of the site."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from sitewright.site import load
from sitewright.site.files import REPOSITORY
from sitewright.site.inventory import inventory

SCRIPT = REPOSITORY / "playbooks/inventory/site.py"
ANSIBLE_INVENTORY = f"{sys.prefix}/bin/ansible-inventory"


@pytest.fixture(scope="module")
def lab():
    return inventory(load(REPOSITORY / "environments/lab.yaml"))


def test_groups_hold_the_machines_of_the_site(lab):
    nodes = ["x1000c0s0b0n0", "x1000c0s0b1n0"]
    groups = {name: group["hosts"] for name, group in lab.items() if name not in ("_meta", "all")}
    assert groups == {
        "ungrouped": ["localhost"],
        "virtual_machines": ["svc-cp"],
        "nodes": nodes,
        "pool_gpu": nodes,
        "control_plane_svc": ["svc-cp"],
        "cluster_svc": ["svc-cp", *nodes],
    }


def test_a_machine_knows_how_it_is_reached_and_what_it_is(lab):
    variables = lab["_meta"]["hostvars"]["x1000c0s0b0n0"]
    assert variables["ansible_host"] == "10.77.0.64"
    assert variables["ansible_user"] == "root"
    assert variables["ansible_ssh_private_key_file"] == "/var/lib/sitewright/lab/ssh/id_ed25519"
    assert variables["site_node"]["bmc_address"] == "10.77.0.160"
    assert variables["site_node"]["memory"] == 9 * 2**30
    assert lab["_meta"]["hostvars"]["svc-cp"]["site_vm"]["address"] == "10.77.0.10"


def test_machines_of_mixed_padding_have_exactly_their_names(tmp_path):
    """Another host than the one meant was in the files elsewhere: clustershell/clustershell#381, #404."""
    base = REPOSITORY / "tests/data/site/base.yaml"
    machines = """virtual_machines:
  - {name: "cp[1-3]", image: debian-12, network: nodes}
  - {name: "%s", image: debian-12, network: nodes}
"""
    names = [*(f"mapr00{number}" for number in range(1, 7)), "mapr07"]
    for number, hostlist in enumerate(("mapr[001-006],mapr07", "mapr07,mapr[001-006]")):
        file = tmp_path / f"site{number}.yaml"
        file.write_text(f"extends: {base}\nname: {file.stem}\n{machines % hostlist}")
        made = inventory(load(file))
        assert sorted(made["virtual_machines"]["hosts"]) == ["cp1", "cp2", "cp3", *names]
        assert set(names) < made["_meta"]["hostvars"].keys()
        assert "mapr007" not in json.dumps(made)


def test_a_proxy_command_with_quotes_stays_one_option_of_ssh():
    site = load(REPOSITORY / "environments/lab.yaml")
    command = """sh -c 'ssh "bastion host" -W %h:%p'"""
    ssh = site.ssh.model_copy(update={"proxy_command": command})
    variables = inventory(site.model_copy(update={"ssh": ssh}))["_meta"]["hostvars"]["svc-cp"]
    assert shlex.split(variables["ansible_ssh_common_args"])[-2:] == ["-o", f"ProxyCommand={command}"]


def test_localhost_runs_with_our_python(lab):
    local = lab["_meta"]["hostvars"]["localhost"]
    assert local == {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


def test_every_host_sees_the_site_and_its_cluster(lab):
    assert lab["all"]["vars"]["site"]["registry"]["endpoint"] == "http://10.77.0.1:5000"
    facts = lab["cluster_svc"]["vars"]["site_cluster"]
    assert (facts["endpoint_address"], facts["dns_address"]) == ("10.77.0.10", "10.79.0.10")
    assert facts["control_plane"] == ["svc-cp"]


def test_ansible_reads_the_script():
    result = _run([ANSIBLE_INVENTORY, "-i", SCRIPT, "--list"], "lab")
    assert result.returncode == 0, result.stderr
    read = json.loads(result.stdout)
    assert read["cluster_svc"]["hosts"] == ["svc-cp", "x1000c0s0b0n0", "x1000c0s0b1n0"]
    assert read["_meta"]["hostvars"]["svc-cp"]["site_cluster"]["name"] == "svc"


def test_without_an_environment_the_script_says_what_is_missing():
    result = _run([SCRIPT, "--list"], "")
    assert result.returncode == 1
    assert "SITEWRIGHT_ENVIRONMENT is not set" in result.stderr


def test_a_python_without_our_modules_gives_way_to_ours_and_problems_reach_the_operator():
    invalid = REPOSITORY / "tests/data/invalid/no-such-cluster.yaml"
    result = _run(["/usr/bin/env", "-i", f"SITEWRIGHT_ENVIRONMENT={invalid}", "/usr/bin/python3", SCRIPT], "")
    assert result.returncode == 1
    assert "no cluster named 'svcs' (did you mean 'svc'?)" in result.stderr
    assert "Traceback" not in result.stderr


def _run(command, environment):
    """In another directory than the repository, as ansible-runner does."""
    variables = {**os.environ, "SITEWRIGHT_ENVIRONMENT": environment}
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=variables, cwd="/", check=False
    )
