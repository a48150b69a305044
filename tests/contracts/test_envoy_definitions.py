"""What is rendered for Envoy AI Gateway, as a real API server takes it with the definitions that were published."""

from collections.abc import Iterator
from pathlib import Path

import kubernetes
import pytest
import yaml

from modules.gateway.envoy_ai_gateway import render
from modules.gateway.llm_gateway_spec import LlmGatewaySpec
from tests.contracts.fake_hypervisor import api_server, until
from tests.contracts.go_module import go_module
from tests.contracts.scheduled_cluster import apply
from tests.unit.golden import DATA

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

AI, ENVOY, GATEWAY = (
    "github.com/envoyproxy/ai-gateway@v1.0.0",
    "github.com/envoyproxy/gateway@v1.8.1",
    "sigs.k8s.io/gateway-api@v1.5.1",
)
DEFINITIONS = {
    AI: (
        "manifests/charts/ai-gateway-crds-helm/templates/aigateway.envoyproxy.io_",
        ["aigatewayroutes", "aiservicebackends"],
    ),
    ENVOY: (
        "charts/gateway-helm/charts/crds/crds/generated/gateway.envoyproxy.io_",
        ["backends", "backendtrafficpolicies", "clienttrafficpolicies", "envoyproxies", "securitypolicies"],
    ),
    GATEWAY: ("config/crd/standard/gateway.networking.k8s.io_", ["gateways"]),
}
SPEC = yaml.safe_load((DATA / "envoy_ai_gateway/canary-and-fallback/spec.yaml").read_text())


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("api")
    with api_server(place) as found:
        kubernetes.config.load_kube_config(str(found))
        extensions = kubernetes.client.ApiextensionsV1Api()
        for name, (prefix, kinds) in DEFINITIONS.items():
            for kind in kinds:
                text = (go_module(name, place) / f"{prefix}{kind}.yaml").read_text()
                extensions.create_custom_resource_definition(yaml.load(text, yaml.CSafeLoader))
        until(lambda: _established(extensions) == 8, "all kinds are there", 60)
        apply(found, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ai"}})
        yield found


def _established(extensions: kubernetes.client.ApiextensionsV1Api) -> int:
    return sum(
        any(one.type == "Established" and one.status == "True" for one in found.status.conditions or [])
        for found in extensions.list_custom_resource_definition().items
    )


def test_every_object_and_every_field_of_it_is_one_that_they_define(kubeconfig: Path) -> None:
    manifests = render(LlmGatewaySpec.model_validate(SPEC))
    apply(kubeconfig, *manifests)
    objects = kubernetes.client.CustomObjectsApi()
    for manifest in manifests:
        if manifest["kind"] == "Secret":
            continue
        group, version = manifest["apiVersion"].split("/")
        plural = {
            "BackendTrafficPolicy": "backendtrafficpolicies",
            "ClientTrafficPolicy": "clienttrafficpolicies",
        }
        plural |= {"SecurityPolicy": "securitypolicies", "EnvoyProxy": "envoyproxies"}
        where = (group, version, "ai", plural.get(manifest["kind"], f"{manifest['kind'].lower()}s"))
        there = objects.get_namespaced_custom_object(*where, manifest["metadata"]["name"])
        assert _within(manifest["spec"], there["spec"]), f"{manifest['kind']}: a field was dropped"


def _within(wanted: object, there: object) -> bool:
    """Whether all that was wanted is there; defaults may have come."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(
            name in there and _within(value, there[name]) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(there, list) and len(wanted) == len(there) and all(map(_within, wanted, there))
    return wanted == there


def test_what_they_do_not_define_is_refused(kubeconfig: Path) -> None:
    [route] = [one for one in render(LlmGatewaySpec.model_validate(SPEC)) if one["kind"] == "AIGatewayRoute"]
    route["spec"]["rules"][0]["backendRefs"][0]["group"] = "apps"
    with pytest.raises(AssertionError, match="group and kind must be specified together"):
        apply(kubeconfig, route)
