"""What holds for every Deployment, whichever module makes it: read from the recorded manifests of all of them."""

from pathlib import Path

import pytest
import yaml

from tests.unit.golden import DATA

RECORDED = sorted(DATA.glob("*/*/manifests.yaml"))
DEPLOYMENTS = [
    (path, manifest)
    for path in RECORDED
    for manifest in yaml.safe_load_all(path.read_text())
    if manifest["kind"] == "Deployment"
]


def test_there_are_some():
    assert {path.parts[-3] for path, _ in DEPLOYMENTS} >= {
        "llm_gateway",
        "vllm_service",
        "platform",
        "batch_queues",
    }


@pytest.mark.parametrize(
    ("path", "manifest"),
    DEPLOYMENTS,
    ids=[f"{path.parts[-3]}-{path.parts[-2]}-{one['metadata']['name']}" for path, one in DEPLOYMENTS],
)
def test_the_way_back_is_waited_for(path: Path, manifest):
    """With old ReplicaSets kept, `pulumi up` returned before the first pod had gone back: 30 of 40 answers were old."""
    assert manifest["spec"]["revisionHistoryLimit"] == 0
