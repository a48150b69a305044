"""What a served model becomes, and why its numbers are as they are."""

import pytest
import yaml
from pydantic import ValidationError

from modules.inference import vllm_watchdog
from modules.inference.vllm_pod import BLADE_LABEL, SLACK_SECONDS, STOP, WATCHDOG, VllmServiceSpec
from modules.inference.vllm_service import priority_class, render
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


def waits_before_the_end(container: dict) -> int:
    """Seconds, as modules/inference/vllm_stop.py is told them."""
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command[:-1] == ["/e/bin/python", "-I", "-S", "-c", STOP, "8000"]
    return int(command[-1])


@pytest.mark.parametrize("case", cases("vllm_service"), ids=lambda path: path.name)
def test_rendered_manifests_are_the_recorded_ones(case):
    given = VllmServiceSpec.model_validate(yaml.safe_load((case / "spec.yaml").read_text()))
    check(case / "manifests.yaml", yaml.safe_dump_all(render(given), sort_keys=False))


@pytest.mark.parametrize("drain", [1, 100, 3600])
def test_streams_get_their_time_before_the_kill(drain):
    """preStop and the shutdown run one after the other, and the kill comes when both are over."""
    template = pod(spec(drain_timeout=drain))
    container = template["containers"][0]
    told = int(container["args"][container["args"].index("--shutdown-timeout") + 1])
    waits = waits_before_the_end(container)
    assert told == drain
    assert template["terminationGracePeriodSeconds"] == waits + told + SLACK_SECONDS


@pytest.mark.parametrize("budget", [60, 61, 900, 3600])
def test_a_replica_may_take_its_whole_budget_to_load(budget):
    probe = pod(spec(startup_budget=budget))["containers"][0]["startupProbe"]
    covered = probe["periodSeconds"] * probe["failureThreshold"]
    assert budget <= covered < budget + probe["periodSeconds"]


@pytest.mark.parametrize("replicas", [1, 2, 32])
def test_an_update_may_drain_and_load_every_replica_in_turn(replicas):
    """No spare GPUs: the new replica begins to load when the old one has let go of them."""
    given = spec(replicas=replicas, startup_budget=900, drain_timeout=600)
    deployment = render(given)[-1]
    turn = pod(given)["terminationGracePeriodSeconds"] + given.startup_budget
    assert deployment["spec"]["progressDeadlineSeconds"] > turn + deployment["spec"]["minReadySeconds"]
    waited = int(deployment["metadata"]["annotations"]["pulumi.com/timeoutSeconds"])
    assert waited >= replicas * turn
    assert waited > deployment["spec"]["progressDeadlineSeconds"], "the cluster's own reason is shown first"


def test_a_pod_that_drains_gets_no_new_requests_before_it_refuses_them():
    """A pod that ends is taken out of the Service at once, but nodes learn it one after the other."""
    container = pod(spec())["containers"][0]
    readiness = container["readinessProbe"]
    assert waits_before_the_end(container) >= (readiness["periodSeconds"] * readiness["failureThreshold"])


def test_a_busy_replica_is_not_killed_for_one_slow_answer():
    probe = pod(spec())["containers"][0]["livenessProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] >= 60
    assert probe["timeoutSeconds"] > vllm_watchdog.TIMEOUT


def test_a_replica_that_hangs_is_started_anew_within_minutes_although_a_drain_may_take_longer():
    container = pod(spec(drain_timeout=3600))["containers"][0]
    probe = container["livenessProbe"]
    assert probe["exec"]["command"] == ["/e/bin/python", "-I", "-S", "-c", WATCHDOG, "8000"]
    seen_after = vllm_watchdog.PATIENCE + probe["failureThreshold"] * probe["periodSeconds"]
    assert seen_after + probe["terminationGracePeriodSeconds"] <= 180
    assert probe["terminationGracePeriodSeconds"] > waits_before_the_end(container)


def test_an_update_needs_no_spare_gpus():
    assert render(spec())[-1]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_a_replica_serves_for_a_while_before_the_next_one_goes():
    """One that dies of its first requests then stops the update at one replica."""
    assert render(spec())[-1]["spec"]["minReadySeconds"] == 20


def test_a_large_model_is_not_given_up_before_its_probe_gives_it_up():
    environment = {
        one["name"]: one["value"] for one in pod(spec(startup_budget=3600))["containers"][0]["env"]
    }
    assert environment["VLLM_ENGINE_READY_TIMEOUT_S"] == "3600"


def test_replicas_never_share_a_node_and_share_a_blade_only_where_they_must():
    spread = {one["topologyKey"]: one for one in pod(spec())["topologySpreadConstraints"]}
    assert {key: one["whenUnsatisfiable"] for key, one in spread.items()} == {
        "kubernetes.io/hostname": "DoNotSchedule",
        BLADE_LABEL: "ScheduleAnyway",
    }
    for one in spread.values():
        assert one["nodeTaintsPolicy"] == "Honor", "a cordoned node would block the replacement pod"
        assert one["labelSelector"]["matchLabels"] == render(spec())[-1]["spec"]["selector"]["matchLabels"]


def test_serving_goes_before_batch_jobs_and_after_the_cluster_itself():
    made = priority_class()
    assert pod(spec())["priorityClassName"] == made["metadata"]["name"]
    assert 0 < made["value"] <= 1_000_000_000, "above is for the cluster's own"
    assert "globalDefault" not in made, "pods that say nothing stay at 0"


@pytest.mark.parametrize("clients", [[], ["10.77.0.0/24", "10.100.0.0/16"]])
def test_only_the_namespace_and_the_named_clients_reach_the_port(clients):
    given = spec(clients=clients)
    policy = next(one for one in render(given) if one["kind"] == "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == render(given)[-1]["spec"]["selector"]["matchLabels"]
    assert policy["policyTypes"] == ["Ingress"]
    [rule] = policy["ingress"]
    assert rule["from"] == [{"podSelector": {}}, *({"ipBlock": {"cidr": network}} for network in clients)]
    [port] = pod(given)["containers"][0]["ports"]
    assert rule["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]


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


def test_gpus_are_asked_for_and_limited_alike():
    resources = pod(spec(gpus=4))["containers"][0]["resources"]
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == "4"
    assert "nvidia.com/gpu" not in pod(spec(gpus=0))["containers"][0]["resources"]["limits"]


def test_every_selector_finds_the_pods_and_only_those_of_this_model():
    policy, _, service, budget, deployment = render(spec())
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert labels != render(spec(name="other"))[-1]["spec"]["template"]["metadata"]["labels"]


def test_a_taint_is_tolerated_with_or_without_a_value():
    assert pod(spec(taints=["a=b:NoSchedule", "c:NoExecute"]))["tolerations"] == [
        {"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"},
        {"key": "c", "operator": "Exists", "effect": "NoExecute"},
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"gpu": 2}, "gpu\n.*Extra inputs"),
        ({"name": "vllm"}, "'vllm' as a Service gives pods VLLM_PORT="),
        ({"name": "Tiny"}, "upper case 'T'"),
        ({"namespace": "a_b"}, "namespace\n.*pattern"),
        ({"pool": "GH200"}, "pool\n.*pattern"),
        ({"taints": ["nvidia.com/gpu"]}, "taints.0\n.*pattern"),
        ({"taints": ["a=b:NoScheduling"]}, "taints.0\n.*pattern"),
        ({"replicas": 0}, "replicas\n.*greater than or equal to 1"),
        ({"gpus": -1}, "gpus\n.*greater than or equal to 0"),
        ({"cpus": 0}, "cpus\n.*greater than or equal to 1"),
        ({"clients": ["10.77.0.1/24"]}, "clients.0\n.*IPv4 network"),
        ({"node_port": 80}, "node_port\n.*greater than or equal to 30000"),
        ({"node_port": 32768}, "node_port\n.*less than or equal to 32767"),
        ({"memory": 128 * 2**20}, "memory\n.*greater than or equal to 268435456"),
        ({"memory": "5Gi"}, "memory\n.*valid integer"),
        ({"max_model_len": 0}, "max_model_len\n.*greater than or equal to 1"),
        ({"startup_budget": 59}, "startup_budget\n.*greater than or equal to 60"),
        ({"drain_timeout": 0}, "drain_timeout\n.*greater than or equal to 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_by_name(more, message):
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        spec(**more)
