"""The gateway in the words of Envoy AI Gateway: what is rendered, and what is refused since it has no words for it."""

import pytest
import yaml

from modules.gateway.envoy_ai_gateway import RULES, UnsupportedError, render
from modules.gateway.llm_gateway_spec import LlmGatewaySpec
from tests.unit.golden import cases, check

BASE = "http://tiny.default.svc:8000/v1"


def spec(**more) -> LlmGatewaySpec:
    given = {
        "image": "i",
        "python": "p",
        "pool": "svc",
        "models": [{"name": "tiny", "targets": [{"api_base": BASE}]}],
    }
    return LlmGatewaySpec.model_validate({**given, **more})


def of(kind: str, manifests: list[dict]) -> list[dict]:
    return [one for one in manifests if one["kind"] == kind]


@pytest.mark.parametrize("case", cases("envoy_ai_gateway"), ids=lambda path: path.name)
def test_rendered_manifests_are_the_recorded_ones(case):
    given = LlmGatewaySpec.model_validate(yaml.safe_load((case / "spec.yaml").read_text()))
    check(case / "manifests.yaml", yaml.safe_dump_all(render(given), sort_keys=False, width=1000))


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"teams": [{"name": "climate", "models": ["tiny"]}]}, "teams"),
        ({"default_models": ["tiny"]}, "default_models"),
        ({"upstream_key": "vllm-key"}, "upstream_key"),
        ({"node_port": 30400}, "node_port"),
        (
            {"models": [{"name": "far", "targets": [{"api_base": "https://192.0.2.7/v1"}]}]},
            "api_base with https",
        ),
        ({"upstream_key": "vllm-key", "node_port": 30400}, "upstream_key, node_port"),
    ],
)
def test_what_would_be_left_out_is_refused_by_name(more, names):
    with pytest.raises(UnsupportedError, match=f"^{names}: Envoy AI Gateway cannot be told"):
        render(spec(**more))


def test_no_key_is_in_what_is_rendered():
    assert all("data" not in one and "stringData" not in one for one in of("Secret", render(spec())))


def test_models_behind_one_address_share_its_backend():
    models = [{"name": f"m{place}", "targets": [{"api_base": BASE}]} for place in range(3)]
    assert len(of("Backend", render(spec(models=models)))) == 1


@pytest.mark.parametrize(("models", "routes"), [(1, 1), (RULES, 1), (RULES + 1, 2), (3 * RULES, 3)])
def test_a_route_takes_so_many_models_and_each_route_has_its_policy(models, routes):
    made = render(
        spec(models=[{"name": f"m{place}", "targets": [{"api_base": BASE}]} for place in range(models)])
    )
    found = of("AIGatewayRoute", made)
    assert len(found) == routes
    assert sum(len(one["spec"]["rules"]) for one in found) == models
    assert {one["spec"]["targetRefs"][0]["name"] for one in of("BackendTrafficPolicy", made)} == {
        one["metadata"]["name"] for one in found
    }


def test_a_model_that_stands_in_is_asked_only_after_the_first():
    models = [
        {"name": "large", "targets": [{"api_base": BASE}], "fallbacks": ["small"]},
        {"name": "small", "targets": [{"api_base": "http://small.default.svc:8000/v1"}]},
    ]
    [route] = of("AIGatewayRoute", render(spec(models=models)))
    first, second = route["spec"]["rules"][0]["backendRefs"]
    assert (first["modelNameOverride"], first["priority"]) == ("large", 0)
    assert (second["modelNameOverride"], second["priority"]) == ("small", 1)
