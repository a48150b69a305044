"""A replica over several nodes: who speaks, who watches whom, and how the network gets into the pods."""

import pytest
import yaml
from pydantic import ValidationError

from modules.fabric.high_speed_net import ENVIRONMENT, MULTUS, Fabric, wire
from modules.inference.vllm_group_service import INDEX_LABEL, RENDEZVOUS_PORT, VllmGroupServiceSpec, render
from sitewright.lint.manifests import read
from sitewright.lint.rules import lint
from tests.unit.golden import cases, check

GIB = 2**30


def spec(**more) -> VllmGroupServiceSpec:
    given = {
        "name": "huge",
        "image": "i@sha256:1",
        "python": "/e/bin/python",
        "model_path": "/m",
        "pool": "gpu",
        "nodes": 4,
        "gpus": 4,
    }
    return VllmGroupServiceSpec.model_validate({**given, "cpus": 2, "memory": 5 * GIB, **more})


def of(kind: str, given: VllmGroupServiceSpec) -> dict:
    [found] = [manifest for manifest in render(given) if manifest["kind"] == kind]
    return found


def pods(given: VllmGroupServiceSpec) -> tuple[dict, dict]:
    templates = of("LeaderWorkerSet", given)["spec"]["leaderWorkerTemplate"]
    return templates["leaderTemplate"]["spec"], templates["workerTemplate"]["spec"]


@pytest.mark.parametrize("case", cases("vllm_group_service"), ids=lambda path: path.name)
def test_rendered_manifests_are_the_recorded_ones(case):
    given = VllmGroupServiceSpec.model_validate(yaml.safe_load((case / "spec.yaml").read_text()))
    check(case / "manifests.yaml", yaml.safe_dump_all(render(given), sort_keys=False))


def test_the_gpus_of_all_nodes_compute_together_and_only_the_first_speaks():
    leader, worker = (pod["containers"][0] for pod in pods(spec()))
    for container in (leader, worker):
        assert container["args"].count("--tensor-parallel-size") == 1
        assert container["args"][container["args"].index("--tensor-parallel-size") + 1] == "16"
    assert "--headless" in worker["args"] and "--headless" not in leader["args"]
    assert of("Service", spec())["spec"]["selector"][INDEX_LABEL] == "0"


def test_stages_divide_what_computes_together():
    args = pods(spec(pipeline_parallel=2))[0]["containers"][0]["args"]
    assert args[args.index("--tensor-parallel-size") + 1] == "8"
    assert args[args.index("--pipeline-parallel-size") + 1] == "2"


def test_a_worker_without_its_leader_is_not_alive():
    worker = pods(spec())[1]["containers"][0]
    for probe in ("startupProbe", "livenessProbe"):
        assert str(RENDEZVOUS_PORT) in worker[probe]["exec"]["command"][-1]
    assert "readinessProbe" not in worker
    groups = of("LeaderWorkerSet", spec())["spec"]["leaderWorkerTemplate"]
    assert groups["restartPolicy"] == "RecreateGroupOnPodRestart"


@pytest.mark.parametrize(("replicas", "minimum"), [(2, 7), (3, 11)])
def test_a_drain_takes_one_pod_and_then_waits_for_its_group(replicas, minimum):
    assert of("PodDisruptionBudget", spec(replicas=replicas))["spec"]["minAvailable"] == minimum
    assert "PodDisruptionBudget" not in [one["kind"] for one in render(spec(replicas=1))]


def test_pods_of_a_model_reach_each_other_at_any_port():
    own = of("NetworkPolicy", spec())["spec"]["ingress"][-1]
    assert own["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "huge"
    assert "ports" not in own


def test_cards_and_variables_come_and_annotations_stay():
    template = {
        "metadata": {"annotations": {"kueue": "mine"}},
        "spec": {"containers": [{"resources": {"limits": {"memory": "1Gi"}}, "env": []}]},
    }
    fabric = Fabric(environment={"NCCL_NET": "OFI", "NCCL_PROTO": ""})
    made = wire(template, fabric)
    [container] = made["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert made["metadata"]["annotations"]["kueue"] == "mine"
    assert made["metadata"]["annotations"][MULTUS].count("kube-system/hsn") == 4
    assert container["resources"]["limits"] == {"memory": "1Gi", "beta.hpe.com/cxi": "4"}
    assert variables["NCCL_NET"] == "OFI"
    assert variables.keys() == ENVIRONMENT.keys() - {"NCCL_PROTO"}
    assert template["spec"]["containers"][0]["env"] == [], "what was given is not changed"


def test_lint_has_nothing_to_say_of_it(tmp_path):
    (tmp_path / "huge.yaml").write_text(yaml.safe_dump_all(render(spec(fabric={}))))
    assert lint(read([tmp_path / "huge.yaml"]), diskless=True) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"nodes": 1}, "greater than or equal to 2"),
        ({"gpus": 0}, "a group of nodes computes on GPUs"),
        ({"pipeline_parallel": 3}, "4 × 4 GPUs are no multiple of 3"),
        ({"fabric": {"card": 4}}, "Extra inputs"),
    ],
)
def test_a_group_that_cannot_compute_is_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        spec(**wrong)
