"""The site is taken away and brought up again, with the engine killed on the way."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.lab.conftest import REPOSITORY
from tests.lab.test_1_site import ask

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

# Seconds into `pulumi up`: while images are pushed, while kubeadm runs, while nodes boot and join.
KILLED_AFTER = (8, 25, 45)


def test_destroy_removes_everything_and_powers_the_nodes_off(shell):
    shell.must("pulumi destroy -s lab --yes --skip-preview")
    status = json.loads(shell.must("sitewright lab status --json"))
    assert {machine["state"] for machine in status["machines"]} == {"stopped"}
    assert json.loads(shell.must("pulumi stack export -s lab"))["deployment"].get("resources", []) == []


@pytest.mark.parametrize("seconds", KILLED_AFTER)
def test_up_is_killed(environment, runbook, seconds):
    engine = subprocess.Popen(
        ["pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", "lab"],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    assert engine.poll() is None, "the update ended before it could be killed"
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    _end_plugins(engine.pid)
    book = runbook("interrupted-up")
    book.quotes("error: the stack is currently locked by 1 lock(s)", book.look(3))
    book.follow(1, 2)


def _end_plugins(session: int) -> None:
    """The provider of Kubernetes outlives an engine that was killed; it is ours, so we end it."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(int(entry.name)) == session:
                os.kill(int(entry.name), signal.SIGTERM)


def test_up_after_that_converges(pulumi, runbook):
    book = runbook("interrupted-up")
    book.follow(3, 4)
    book.worked()
    outputs = json.loads(pulumi("stack", "output", "--json").stdout)
    question = "What is the highest mountain of the Alps?"
    assert ask(outputs["models"]["tiny"], question).startswith("Mont Blanc")
