"""One cluster with queues for all tests that need one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modules.tuning.fine_tuning import FineTuningSpec, render
from tests.contracts.fake_hypervisor import until
from tests.contracts.queued_cluster import QueuedCluster, queued_cluster
from tests.contracts.queuer import GIB, NAMESPACE, QUEUES, Queuer, workloads
from tests.contracts.scheduled_cluster import apply
from tests.contracts.test_tune import WEIGHTS


@pytest.fixture(scope="session")
def queued(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueuedCluster]:
    """A node of 2 GPUs: one is the runs', the other one is held by models, which lend it."""
    with queued_cluster(tmp_path_factory.mktemp("queues"), QUEUES, gpus=2) as made:
        yield made


@pytest.fixture
def queuer(queued: QueuedCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queuer]:
    monkeypatch.setenv("KUBECONFIG", str(queued.kubeconfig))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(queued.kubeconfig))
    someone = Queuer(tmp_path)
    given: dict[str, Any] = {
        "pool": "gpu",
        "gpus": 1,
        "cpus": 1,
        "memory": GIB,
        "publish_dir": str(someone.shared),
        "models": {
            "tiny": {
                "path": "/shared/models/tiny",
                "digest": WEIGHTS,
                "python": "/s/e-1/bin/python",
                "image": "i@sha256:1",
            }
        },
    }
    apply(queued.kubeconfig, *render(FineTuningSpec.model_validate(given)))
    yield someone
    for run in someone.jobs():
        someone.batch.delete_namespaced_job(run, NAMESPACE, propagation_policy="Background")
    someone.core.delete_collection_namespaced_pod(NAMESPACE, grace_period_seconds=0)
    until(lambda: not workloads() and not someone.jobs(), "nothing is left of the test's runs", 30)
