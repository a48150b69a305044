"""The runbook of a run that does not start, word for word, with the real Kueue."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import kubernetes
import pytest

from tests.contracts.fake_hypervisor import until
from tests.contracts.queued_cluster import QueuedCluster
from tests.contracts.queuer import GROUP, VERSION, Queuer
from tests.lab.user import Runbook, Shell
from tools.locate import tool

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]


@pytest.fixture
def shell(queued: QueuedCluster, queuer: Queuer) -> Shell:
    path = f"{Path(sys.executable).parent}:{tool('kubectl').parent}:{os.environ['PATH']}"
    return Shell({**os.environ, "PATH": path, "KUBECONFIG": str(queued.kubeconfig)})


@pytest.fixture
def runbook(shell: Shell) -> Runbook:
    return Runbook("run-does-not-start", shell)


def test_a_queue_that_was_stopped_admits_runs_again(queuer: Queuer, runbook: Runbook) -> None:
    kubernetes.client.CustomObjectsApi().patch_cluster_custom_object(
        GROUP, VERSION, "clusterqueues", "fine-tuning", {"spec": {"stopPolicy": "Hold"}}
    )
    run = queuer.submits("--queue", "climate")
    queuer.waits_because(run, "queued", "inactive")
    runbook.quotes("ClusterQueue fine-tuning is inactive", runbook.follow(1))
    runbook.follow(3, 4)
    queuer.pod_runs(run)
    runbook.worked()


def test_a_run_that_is_to_go_first_goes_first(queuer: Queuer, shell: Shell, runbook: Runbook) -> None:
    first = queuer.starts("first", "--queue", "climate")
    second = queuer.starts("second", "--queue", "climate")
    urgent = queuer.submits("--name", "urgent", "--queue", "materials")
    queuer.waits_because(urgent, "queued", "insufficient unused quota")
    runbook.quotes("insufficient unused quota for …", runbook.follow(1))
    runbook.follow(2)
    shell.must(f"export RUN={urgent}")
    runbook.follow(7)
    victim = until(lambda: queuer.ending(second) or queuer.ending(first), "one makes way", 30)
    queuer.pod_ends(victim, 75)
    queuer.pod_runs(urgent)
    runbook.worked()
