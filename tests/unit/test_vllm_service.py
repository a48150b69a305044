"""What a served model becomes, and why its numbers are as they are."""

import pytest
import yaml
from pydantic import ValidationError

from modules.vllm_service import VllmServiceSpec, render
from tests.unit.golden import cases, check

GIB = 2**30


def spec(**more) -> VllmServiceSpec:
    given = {
        "name": "tiny",
        "image": "i@sha256:1",
        "python": "/e/bin/python",
        "model_path": "/m",
        "pool": "gpu",
    }
    return VllmServiceSpec.model_validate({**given, "cpus": 2, "memory": 5 * GIB, **more})


def pod(given: VllmServiceSpec) -> dict:
    return render(given)[-1]["spec"]["template"]["spec"]


@pytest.mark.parametrize("case", cases("vllm_service"), ids=lambda path: path.name)
def test_rendered_manifests_are_the_recorded_ones(case):
    given = VllmServiceSpec.model_validate(yaml.safe_load((case / "spec.yaml").read_text()))
    check(case / "manifests.yaml", yaml.safe_dump_all(render(given), sort_keys=False))


def test_streams_get_their_time_before_the_kill():
    template = pod(spec(drain_timeout=100))
    container = template["containers"][0]
    told = int(container["args"][container["args"].index("--shutdown-timeout") + 1])
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert template["terminationGracePeriodSeconds"] > waits + told


@pytest.mark.parametrize("budget", [60, 61, 900, 3600])
def test_a_replica_may_take_its_whole_budget_to_load(budget):
    probe = pod(spec(startup_budget=budget))["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= budget


def test_an_update_needs_no_spare_gpus():
    assert render(spec())[-1]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_a_single_replica_does_not_block_a_drain():
    kinds = [manifest["kind"] for manifest in render(spec(replicas=1))]
    assert "PodDisruptionBudget" not in kinds
    assert "PodDisruptionBudget" in [manifest["kind"] for manifest in render(spec(replicas=2))]


def test_weights_and_software_are_read_only():
    mounts = {m["mountPath"]: m for m in pod(spec())["containers"][0]["volumeMounts"]}
    assert mounts["/shared"]["readOnly"] is True


def test_other_weights_mean_other_pods():
    one, two = (render(spec(model_digest=d))[-1]["spec"]["template"]["metadata"] for d in ("a", "b"))
    assert one != two


def test_tensor_parallel_follows_the_gpus():
    arguments = pod(spec(gpus=4))["containers"][0]["args"]
    assert arguments[arguments.index("--tensor-parallel-size") + 1] == "4"
    assert "--enforce-eager" not in arguments


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"gpu": 2}, "gpu\n"),
        ({"name": "vllm"}, "VLLM_PORT"),
        ({"name": "Tiny"}, "name\n"),
        ({"replicas": 0}, "replicas\n"),
        ({"node_port": 80}, "node_port\n"),
        ({"memory": GIB // 4}, "memory\n"),
    ],
)
def test_a_wrong_value_is_refused_by_name(more, message):
    with pytest.raises(ValidationError, match=message):
        spec(**more)
