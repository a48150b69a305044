"""What holds for every Deployment, whichever module makes it: read from the recorded manifests of all of them."""

from pathlib import Path

import pytest
import yaml

from modules.inference.serving import settings
from tests.unit.golden import DATA

RECORDED = sorted(DATA.glob("*/*/manifests.yaml"))
DEPLOYMENTS = [
    (path, manifest)
    for path in RECORDED
    for manifest in yaml.safe_load_all(path.read_text())
    if manifest["kind"] == "Deployment"
]


SETTINGS = [
    (path, manifest)
    for path in RECORDED
    for manifest in yaml.safe_load_all(path.read_text())
    if manifest["kind"] == "ConfigMap" and manifest.get("immutable")
]
READ_ONCE = {"llm_gateway", "retrieval", "serving_slo", "node_identity", "batch_queues"}


def test_what_a_program_reads_once_is_never_changed_below_it():
    """Changed in place, it came to a pod of the new template after the pod: one gateway of two kept the old targets."""
    assert {path.parts[-3] for path, _ in SETTINGS} == READ_ONCE
    for path, found in SETTINGS:
        workload = list(yaml.safe_load_all(path.read_text()))
        mounted = [
            volume["configMap"]["name"]
            for manifest in workload
            if manifest["kind"] in ("Deployment", "DaemonSet")
            for volume in manifest["spec"]["template"]["spec"]["volumes"]
            if "configMap" in volume
        ]
        assert found["metadata"]["name"] in mounted


def test_other_settings_have_another_name():
    one, same, other = (settings({"name": "s"}, {"file": text}) for text in ("a", "a", "b"))
    assert one == same
    assert one["metadata"]["name"] != other["metadata"]["name"]
    assert settings({"name": "s"}, {"a": "b", "c": ""}) != settings({"name": "s"}, {"a": "", "b": "c"})


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


def test_a_program_that_is_told_to_end_while_it_starts_ends():
    """As process 1 it ignored that for ten minutes, and an update stood still behind it."""
    serving = [
        pod
        for _, manifest in DEPLOYMENTS
        if (pod := manifest["spec"]["template"]["spec"]).get("terminationGracePeriodSeconds", 0) > 60
    ]
    assert len(serving) >= 10
    assert all(pod["shareProcessNamespace"] for pod in serving)
