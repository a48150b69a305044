"""What a router becomes, and who reaches it."""

import pytest
import yaml

from modules.gateway.llm_gateway_spec import Target
from modules.inference.vllm_router import PORT, VllmRouterSpec, render, router_name
from tests.unit.golden import cases, check


def spec(**more) -> VllmRouterSpec:
    given = {"model": "tiny", "image": "i@sha256:1", "python": "/e/bin/python", "pool": "gpu"}
    return VllmRouterSpec.model_validate({**given, **more})


def of(kind: str, given: VllmRouterSpec) -> dict:
    [found] = [manifest for manifest in render(given) if manifest["kind"] == kind]
    return found


@pytest.mark.parametrize("case", cases("vllm_router"), ids=lambda path: path.name)
def test_rendered_manifests_are_the_recorded_ones(case):
    given = VllmRouterSpec.model_validate(yaml.safe_load((case / "spec.yaml").read_text()))
    check(case / "manifests.yaml", yaml.safe_dump_all(render(given), sort_keys=False))


def test_only_the_gateway_reaches_it_and_it_reaches_replicas_and_api_servers_only():
    policy = of("NetworkPolicy", spec(api_servers=["10.0.0.10"]))["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    into, metrics = policy["ingress"]
    assert metrics["from"] == [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/component": "serving-slo"}}}
    ]
    assert into["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "llm-gateway"}}}]
    to_replicas, to_api = policy["egress"]
    assert to_replicas["to"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "tiny"}}}]
    assert to_api["to"] == [{"ipBlock": {"cidr": "10.0.0.10/32"}}]


def test_it_may_see_pods_of_its_namespace_and_nothing_else():
    assert of("Role", spec())["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    ]
    assert "ClusterRole" not in [manifest["kind"] for manifest in render(spec())]


def test_streams_get_their_time_before_the_kill():
    pod = of("Deployment", spec(total_seconds=60))["spec"]["template"]["spec"]
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= pause + 60


def test_the_gateway_finds_the_service_by_its_name():
    front = of("Service", spec())
    target = Target(api_base=f"http://{router_name('tiny')}.default.svc:{PORT}/v1")
    assert target.service == (front["metadata"]["name"], front["metadata"]["namespace"])
