"""End to end, against the site that `sitewright lab up --deploy` brought up.

The tests run in the order of their files: what only looks comes first, what breaks and repairs things
after it, and what takes the site away last.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from sitewright.site import Site, load
from tests.lab.user import REPOSITORY, Runbook, Shell

SITEWRIGHT = REPOSITORY / ".venv/bin/sitewright"
EXAMPLE = "docs/examples/tuning"
GATEWAY = "http://127.0.0.1:18400"
MODEL = "http://127.0.0.1:18000/v1"  # the replicas themselves, without the gateway

Run = Callable[..., subprocess.CompletedProcess[str]]


def run(
    *command: object, timeout: float = 900, check: bool = True, **more
) -> subprocess.CompletedProcess[str]:
    """A command in the repository, its output kept and shown when it fails."""
    done = subprocess.run(
        list(map(str, command)), cwd=REPOSITORY, text=True, capture_output=True, timeout=timeout, **more
    )
    if check and done.returncode != 0:
        pytest.fail(
            f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        )
    return done


def supervisor(site: Site, action: str, service: str) -> None:
    """start or stop one of the lab's services; nobody starts again what was stopped."""
    assert site.lab is not None
    socket = Path(site.lab.state_dir) / "run/supervisord.sock"
    run(sys.executable, "-m", "supervisor.supervisorctl", "-s", f"unix://{socket}", action, service)


def eventually(fact: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if fact():
            return True
        time.sleep(1)
    return False


@pytest.fixture(scope="session")
def site() -> Site:
    return load("lab")


@pytest.fixture(scope="session")
def deployed(site: Site) -> None:
    """The whole site is up. Nothing happens where it is already."""
    run(SITEWRIGHT, "lab", "up", "--deploy", timeout=3600)


@pytest.fixture(scope="session")
def environment(site: Site) -> dict[str, str]:
    """What `eval "$(sitewright lab env)"` gives a user's shell."""
    lines = run(SITEWRIGHT, "lab", "env").stdout.splitlines()
    shell = "\n".join([*lines, "env -0"])
    found = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout
    return dict(entry.split("=", 1) for entry in found.split("\0") if "=" in entry)


@pytest.fixture(scope="session")
def pulumi(deployed, environment) -> Run:
    def call(*arguments: str, **more) -> subprocess.CompletedProcess[str]:
        return run("pulumi", *arguments, "--stack", "lab", "--non-interactive", env=environment, **more)

    return call


@pytest.fixture(scope="session")
def outputs(pulumi) -> dict:
    return json.loads(pulumi("stack", "output", "--json", "--show-secrets").stdout)


@pytest.fixture(scope="session")
def key(pulumi) -> str:
    """Of the lab's team `demo`, for the gateway."""
    shown = pulumi("stack", "output", "gateway_keys", "--show-secrets", "--json").stdout
    return str(json.loads(shown)["demo"])


@pytest.fixture(scope="session")
def kubectl(outputs, environment, tmp_path_factory) -> Run:
    kubeconfig = tmp_path_factory.mktemp("kubeconfig") / "svc"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(outputs["kubeconfigs"]["svc"])

    def call(*arguments: str, **more) -> subprocess.CompletedProcess[str]:
        return run("kubectl", f"--kubeconfig={kubeconfig}", *arguments, env=environment, **more)

    return call


@pytest.fixture(scope="session")
def host(deployed, site) -> Callable[[str], Host]:
    """A machine of the site by name, over ssh, for testinfra."""
    addresses = {vm.name: vm.address for vm in site.vms} | {node.xname: node.address for node in site.nodes}

    def connect(name: str) -> Host:
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        options += f" -o 'ProxyCommand={site.ssh.proxy_command}'"
        return testinfra.get_host(
            f"ssh://{site.ssh.user}@{addresses[name]}",
            ssh_identity_file=str(site.ssh.private_key),
            ssh_extra_args=options,
        )

    return connect


@pytest.fixture(scope="session")
def _prepared_shell(deployed) -> Shell:
    return Shell(dict(os.environ)).prepare()


@pytest.fixture
def shell(_prepared_shell) -> Shell:
    """A shell of one test, prepared as docs/README.md says."""
    return Shell(_prepared_shell.environment)


@pytest.fixture
def runbook(shell: Shell) -> Callable[[str], Runbook]:
    """By the name of its file."""
    return lambda name: Runbook(name, shell)


@pytest.fixture(scope="session")
def finished(_prepared_shell: Shell) -> str:
    """A fine-tuning run that lost its pod half-way, and was finished by the next one."""
    shell = Shell(_prepared_shell.environment)
    submit = f"sitewright tune submit tiny {EXAMPLE}/train.jsonl {EXAMPLE}/recipe.yaml"
    said = shell.must(f"{submit} --evaluation {EXAMPLE}/held-out.jsonl --name alps", "was submitted")
    run_id = said.split(" was submitted")[0].splitlines()[-1]
    assert eventually(lambda: steps(shell, run_id) >= 25, 240), shell.must("sitewright tune list")
    shell.must(f"kubectl delete pod -n fine-tuning -l sitewright.dev/run={run_id} --wait=false")
    shell.must(f"sitewright tune logs {run_id} --follow", "finished, step 200 of 200")
    return run_id


def steps(shell: Shell, run_id: str) -> int:
    done = re.findall(r"step (\d+) of ", shell.must(f"sitewright tune logs {run_id}"))
    return int(done[-1]) if done else 0


@pytest.fixture(autouse=True, scope="session")
def _root() -> None:
    assert os.geteuid() == 0, "the lab needs root: run `make test-lab` as root"
