"""What `pulumi up` runs on a node that booted: what it says where the node is refused. systemd is a stand-in."""

import subprocess
from pathlib import Path

import jinja2
import pytest

TEMPLATE = Path(__file__).parents[2] / "playbooks/roles/node_join/templates/join.sh.j2"
SYSTEMCTL = """#!/bin/sh
echo "$@" >> {root}/calls
case "$*" in
  *is-active*) exit 3 ;;
  "start rke2-agent"|"start kubelet") exit {starts} ;;
  show*) echo @1764496800 ;;
esac
"""


@pytest.fixture
def script(tmp_path: Path):
    def run(unit: str, journal: str, starts: bool) -> subprocess.CompletedProcess[str]:
        (tmp_path / "bin").mkdir()
        programs = {
            "systemctl": SYSTEMCTL.format(root=tmp_path, starts=0 if starts else 1),
            "journalctl": f"#!/bin/sh\necho '{journal}'\n",
        }
        for name, text in programs.items():
            (tmp_path / "bin" / name).write_text(text)
            (tmp_path / "bin" / name).chmod(0o755)
        told = {
            "node_join_settings": "{}",
            "node_join_unit": unit,
            "inventory_hostname": "x1000c0s0b0n0",
        }
        text = jinja2.Template(TEMPLATE.read_text()).render(told)
        text = text.replace("/etc/kubernetes", str(tmp_path))
        return subprocess.run(
            ["/bin/sh", "-s"],
            input=text,
            env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )

    return run


def test_a_node_that_the_cluster_knows_with_another_password_is_told_so(script):
    """RKE2 keeps the hash of the first one in the Secret <node>.node-password.rke2."""
    said = "Failed to configure agent: Node password rejected, duplicate hostname or contents of …"
    done = script("rke2-agent", said, starts=False)
    assert done.returncode == 1
    assert "the cluster knows x1000c0s0b0n0 with another password: docs/rke2.md" in done.stderr


def test_another_reason_is_in_the_journal(script):
    done = script("rke2-agent", "failed to get CA certs", starts=False)
    assert done.returncode == 1
    assert "rke2-agent does not start: see journalctl -u rke2-agent" in done.stderr


@pytest.mark.parametrize("unit", ["rke2-agent", "kubelet"])
def test_what_runs_the_kubelet_is_started_and_its_start_is_returned(script, tmp_path, unit):
    done = script(unit, "", starts=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "@1764496800"
    assert f"start {unit}" in (tmp_path / "calls").read_text()
