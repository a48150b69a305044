"""What the gateway's store becomes: one Redis that the gateway alone reaches."""

import base64

import pulumi
import pytest
import yaml
from pydantic import ValidationError

from modules.gateway.llm_gateway import render as render_gateway
from modules.gateway.llm_gateway_spec import LlmGatewaySpec
from modules.gateway.llm_gateway_store import LlmGatewayStore, LlmGatewayStoreSpec, arguments, entries, render
from modules.spec import MEBI
from tests.unit.golden import cases, check
from tests.unit.mock_engine import Engine

CLIENTS = {"app.kubernetes.io/name": "llm-gateway", "app.kubernetes.io/component": "llm-gateway"}


def spec(**more) -> LlmGatewayStoreSpec:
    given = {"image": "i@sha256:1", "pool": "services", "clients": CLIENTS}
    return LlmGatewayStoreSpec.model_validate({**given, **more})


def one(kind: str, manifests: list[dict]) -> dict:
    return next(manifest for manifest in manifests if manifest["kind"] == kind)


@pytest.mark.parametrize("case", cases("llm_gateway_store"), ids=lambda path: path.name)
def test_rendered_manifests_are_the_recorded_ones(case):
    given = LlmGatewayStoreSpec.model_validate(yaml.safe_load((case / "spec.yaml").read_text()))
    check(case / "manifests.yaml", yaml.safe_dump_all(render(given), sort_keys=False))


def test_the_gateway_asks_for_what_the_store_offers():
    gateway = LlmGatewaySpec.model_validate(
        {
            "image": "i",
            "python": "p",
            "pool": "services",
            "models": [{"name": "tiny", "targets": [{"api_base": "http://tiny.default.svc:8000/v1"}]}],
            "teams": [{"name": "a", "requests_per_minute": 1}],
        }
    )
    manifests, there = render_gateway(gateway), render(spec(clients=gateway.labels))
    pod = manifests[-1]["spec"]["template"]["spec"]
    variables = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    service = one("Service", there)
    port = service["spec"]["ports"][0]["port"]
    assert variables["GATEWAY_STORE"] == f"{service['metadata']['name']}.default.svc:{port}"
    [volume] = [volume for volume in pod["volumes"] if volume["name"] == "store"]
    assert volume["secret"]["secretName"] == one("Secret", there)["metadata"]["name"]
    [entry] = volume["secret"]["items"]
    assert entry["key"] in entries("x")
    assert variables["GATEWAY_STORE_PASSWORD_FILE"].endswith(f"/{entry['path']}")
    [rule] = one("NetworkPolicy", there)["spec"]["ingress"]
    labels = one("Deployment", manifests)["spec"]["template"]["metadata"]["labels"]
    assert rule["from"] == [{"podSelector": {"matchLabels": labels}}]
    way = one("NetworkPolicy", manifests)["spec"]["egress"][-1]
    assert way["to"][0]["podSelector"]["matchLabels"] == service["spec"]["selector"]
    assert way["ports"] == [{"protocol": "TCP", "port": port}]


def test_its_pod_is_what_its_service_and_policy_mean():
    manifests = render(spec())
    labels = one("Deployment", manifests)["spec"]["template"]["metadata"]["labels"]
    assert one("Service", manifests)["spec"]["selector"] == labels
    assert one("NetworkPolicy", manifests)["spec"]["podSelector"]["matchLabels"] == labels


def test_the_password_is_in_the_secret_alone():
    made = {name: base64.b64decode(text).decode() for name, text in entries("abc123").items()}
    assert made == {"password": "abc123", "redis.conf": "requirepass abc123\n"}
    assert "data" not in one("Secret", render(spec()))
    [container] = one("Deployment", render(spec()))["spec"]["template"]["spec"]["containers"]
    assert not [argument for argument in container["args"] if "pass" in argument or "auth" in argument]
    assert all("value" not in variable for variable in container["env"])


@pytest.mark.parametrize("memory", [64 * MEBI, 128 * MEBI, 1024 * MEBI])
def test_counts_their_file_and_the_file_that_replaces_it_fit_into_the_memory(memory):
    """The file is rewritten when it has doubled, and the old one goes when the new one is there."""
    given = arguments(memory)
    values = dict(zip(given[::2], given[1::2], strict=True))
    [volume] = [
        volume
        for volume in one("Deployment", render(spec(memory=memory)))["spec"]["template"]["spec"]["volumes"]
        if "emptyDir" in volume
    ]
    assert int(values["--maxmemory"]) + memory // 2 < memory, "the volume is memory of the container too"
    assert 3 * int(values["--auto-aof-rewrite-min-size"]) < memory // 2
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": f"{memory // 2 // MEBI}Mi"}
    assert values["--maxmemory-policy"] == "noeviction"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"image": None}, "image\n.*valid string"),
        ({"pool": "Services"}, "pool\n.*pattern"),
        ({"memory": 32 * MEBI}, "memory\n.*greater than or equal to 67108864"),
        ({"clients": {}}, "clients\n.*at least 1"),
        ({"name": "a.b"}, "name\n.*pattern"),
        ({"password": "x"}, "password\n.*Extra inputs"),
        ({"replicas": 2}, "replicas\n.*Extra inputs"),
        ({"taints": ["x"]}, "taints.0\n.*pattern"),
        (
            {
                "clients": {
                    "app.kubernetes.io/name": "llm-gateway-store",
                    "app.kubernetes.io/component": "llm-gateway-store",
                }
            },
            "clients: these are the labels of llm-gateway-store itself",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_by_name(more, message):
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        spec(**more)


def test_the_component_applies_what_is_rendered_with_the_image_and_the_password_as_a_secret():
    engine = Engine()
    pulumi.runtime.set_mocks(engine, preview=False)

    @pulumi.runtime.test
    def program() -> None:
        made = LlmGatewayStore(spec(image=""), pulumi.Output.from_input("redis@sha256:2"), "abc123")
        assert len(made.ready) == len(render(spec()))

    program()
    name = "llm-gateway-store"
    [container] = engine.made[f"{name}-deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "redis@sha256:2"
    data = engine.made[f"{name}-secret"]["data"]
    assert data["value"] == entries("abc123")
    assert data["4dabf18193072939515e22adb298388d"] == "1b47061264138c4ac30d75fd1eb44270", (
        "a secret to Pulumi"
    )
