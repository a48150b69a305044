"""What a real API server says of a group service, with LeaderWorkerSet's own definition of its kind."""

from collections.abc import Iterator

import kubernetes
import pytest
import yaml

from modules.inference.vllm_group_service import VllmGroupServiceSpec, render
from tests.contracts.fake_hypervisor import api_server
from tests.contracts.go_module import go_module
from tests.lab.gateway_program import wait_for
from tests.unit.golden import DATA

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

MODULE = "sigs.k8s.io/lws@v0.8.0"
KIND = {"group": "leaderworkerset.x-k8s.io", "version": "v1", "plural": "leaderworkersets"}


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Of the kind, out of the module's own files."""
    place = go_module(MODULE, tmp_path_factory.mktemp("lws"))
    file = place / "config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml"
    return yaml.load(file.read_text(), yaml.CSafeLoader)


@pytest.fixture(scope="module")
def api(definition: dict, tmp_path_factory: pytest.TempPathFactory) -> Iterator[kubernetes.client.ApiClient]:
    with api_server(tmp_path_factory.mktemp("api")) as kubeconfig:
        client = kubernetes.config.new_client_from_config(str(kubeconfig))
        kubernetes.client.ApiextensionsV1Api(client).create_custom_resource_definition(definition)
        objects = kubernetes.client.CustomObjectsApi(client)
        wait_for(lambda: _served(objects), "the kind LeaderWorkerSet")
        yield client


def _served(objects: kubernetes.client.CustomObjectsApi) -> bool:
    try:
        objects.list_namespaced_custom_object(namespace="default", **KIND)
    except kubernetes.client.ApiException:
        return False
    return True


def spec(**more) -> VllmGroupServiceSpec:
    case = DATA / "vllm_group_service/four-nodes-of-gh200/spec.yaml"
    return VllmGroupServiceSpec.model_validate({**yaml.safe_load(case.read_text()), **more})


def test_every_field_is_one_the_api_knows(api: kubernetes.client.ApiClient):
    *others, groups = render(spec())
    strict = {"field_validation": "Strict", "dry_run": "All"}
    made = kubernetes.client.CustomObjectsApi(api).create_namespaced_custom_object(
        namespace="default", body=groups, **KIND, **strict
    )
    assert made["spec"]["leaderWorkerTemplate"]["size"] == 4
    policy, programs, front, budget = others
    kubernetes.client.CoreV1Api(api).create_namespaced_config_map("default", programs, **strict)
    kubernetes.client.NetworkingV1Api(api).create_namespaced_network_policy("default", policy, **strict)
    kubernetes.client.CoreV1Api(api).create_namespaced_service("default", front, **strict)
    kubernetes.client.PolicyV1Api(api).create_namespaced_pod_disruption_budget("default", budget, **strict)


def test_the_api_would_say_what_it_does_not_know(api: kubernetes.client.ApiClient):
    groups = render(spec())[-1]
    groups["spec"]["leaderWorkerTemplate"]["sise"] = 4
    with pytest.raises(kubernetes.client.ApiException, match="sise"):
        kubernetes.client.CustomObjectsApi(api).create_namespaced_custom_object(
            namespace="default", body=groups, **KIND, field_validation="Strict", dry_run="All"
        )
