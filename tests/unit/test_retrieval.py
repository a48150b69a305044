"""What a retrieval service becomes: manifests, and how it hangs together with the gateway."""

import ast
import json

import pytest
import yaml
from pydantic import ValidationError

from modules.gateway.llm_gateway import render as render_gateway
from modules.gateway.llm_gateway_spec import LlmGatewaySpec
from modules.retrieval.retrieval import FILES, HERE, PORT, PROGRAM, SETTINGS, SLACK_SECONDS, render
from modules.retrieval.retrieval_spec import RetrievalSpec
from tests.unit.golden import cases, check, without_digest

MODEL = {
    "name": "tiny-with-manuals",
    "collection": "manuals",
    "model": "tiny",
    "api_base": "http://tiny.default.svc:8000/v1",
}


def spec(**more) -> RetrievalSpec:
    given = {"image": "i@sha256:1", "python": "/e/bin/python", "pool": "services", "models": [MODEL]}
    return RetrievalSpec.model_validate({**given, **more})


def one(given: RetrievalSpec, kind: str) -> dict:
    return next(manifest for manifest in render(given) if manifest["kind"] == kind)


def pod(given: RetrievalSpec) -> dict:
    return one(given, "Deployment")["spec"]["template"]["spec"]


def readable(manifests: list[dict]) -> list[dict]:
    """Settings as data and not as text, and without the programs, which have a test of their own."""
    [settings] = [manifest for manifest in manifests if manifest["kind"] == "ConfigMap"]
    settings["data"] = {"settings.json": json.loads(settings["data"]["settings.json"])}
    return without_digest(manifests)


@pytest.mark.parametrize("case", cases("retrieval"), ids=lambda path: path.name)
def test_rendered_manifests_are_the_recorded_ones(case):
    given = RetrievalSpec.model_validate(yaml.safe_load((case / "spec.yaml").read_text()))
    check(case / "manifests.yaml", yaml.safe_dump_all(readable(render(given)), sort_keys=False))


def test_the_pod_has_every_file_that_its_program_imports_and_none_of_the_operators():
    """Started with -m from the mount, the program finds its modules under the names they have here."""
    data = one(spec(), "ConfigMap")["data"]
    assert set(data) == {"settings.json", *FILES}
    for name in FILES:
        imported = [
            f"{node.module}.{one.name}" if node.module == "modules.retrieval" else node.module
            for node in ast.walk(ast.parse(data[name]))
            if isinstance(node, ast.ImportFrom) and node.module
            for one in node.names
        ]
        ours = [module for module in imported if module.startswith(("modules.", "sitewright"))]
        assert {f"{module.removeprefix('modules.retrieval.')}.py" for module in ours} <= set(FILES), name
    [volume] = [one for one in pod(spec())["volumes"] if one["name"] == "settings"]
    paths = {item["key"]: item["path"] for item in volume["configMap"]["items"]}
    assert paths["settings.json"] == "settings.json"
    assert paths["retrieval_server.py"] == f"{PROGRAM.replace('.', '/')}.py"
    variables = {one["name"]: one["value"] for one in pod(spec())["containers"][0]["env"]}
    assert variables["PYTHONPATH"] == SETTINGS
    assert (HERE / "__init__.py").read_text() == "", "the pod has none"


def test_a_config_map_holds_less_than_the_api_takes():
    assert sum(map(len, one(spec(), "ConfigMap")["data"].values())) < 512 * 1024


def test_only_the_gateway_gets_in_and_only_questions_get_out():
    policy = one(spec(models=[MODEL, {**MODEL, "name": "again"}]), "NetworkPolicy")["spec"]
    [rule] = policy["ingress"]
    [peer] = rule["from"]
    assert peer["podSelector"]["matchLabels"] == {
        "app.kubernetes.io/name": "llm-gateway",
        "app.kubernetes.io/component": "llm-gateway",
    }
    names, model = policy["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert model["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "tiny"


def test_the_gateway_gets_out_to_it():
    """Both policies name the other side's pods by the labels those have."""
    target = {"api_base": f"http://retrieval.default.svc:{PORT}/v1", "component": "retrieval"}
    given = {"image": "i", "python": "p", "pool": "p", "models": [{"name": "x", "targets": [target]}]}
    manifests = render_gateway(LlmGatewaySpec.model_validate(given))
    [policy] = [manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy"]
    [peer] = policy["spec"]["egress"][1]["to"]
    labels = one(spec(), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"] == labels
    gateway = manifests[-1]["spec"]["template"]["metadata"]["labels"]
    [rule] = one(spec(), "NetworkPolicy")["spec"]["ingress"]
    assert rule["from"][0]["podSelector"]["matchLabels"] == gateway


def test_other_settings_mean_other_pods():
    assert pod(spec()) == pod(spec())
    assert pod(spec()) != pod(spec(models=[{**MODEL, "top_k": 7}]))


def test_streams_get_their_time_before_the_kill():
    given = spec(drain_timeout=100)
    container = pod(given)["containers"][0]
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    assert variables["RETRIEVAL_DRAIN"] == "100"
    assert pod(given)["terminationGracePeriodSeconds"] == waits + 100 + SLACK_SECONDS
    deployment = one(given, "Deployment")
    waited = int(deployment["metadata"]["annotations"]["pulumi.com/timeoutSeconds"])
    assert (
        waited > deployment["spec"]["progressDeadlineSeconds"] > pod(given)["terminationGracePeriodSeconds"]
    )


def test_the_pod_can_write_nothing_but_its_memory():
    container = pod(spec())["containers"][0]
    writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/tmp"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod(spec())["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": [MODEL, MODEL]}, "tiny-with-manuals is there twice"),
        ({"models": [{**MODEL, "name": "embeddings"}]}, "embeddings is there twice"),
        ({"models": [{**MODEL, "api_base": "http://tiny.default.svc:8000"}]}, "api_base"),
        ({"models": [{**MODEL, "api_base": "http://example.org/v1"}]}, "neither"),
        ({"models": [{**MODEL, "collection": "../x"}]}, "collection"),
        ({"models": [{**MODEL, "topk": 3}]}, "topk"),
        ({"memory": 1}, "memory"),
    ],
)
def test_what_does_not_fit_together_is_refused(change, said):
    with pytest.raises(ValidationError, match=said):
        spec(**change)
