"""What a gateway becomes, and what LiteLLM is told."""

import base64
import json

import pulumi
import pytest
import yaml
from pydantic import ValidationError

from modules.gateway.llm_gateway import KEYS, SETTINGS, SLACK_SECONDS, LlmGateway, render
from modules.gateway.llm_gateway_config import LitellmConfig
from modules.gateway.llm_gateway_spec import LlmGatewaySpec
from tests.unit.golden import cases, check, without_digest
from tests.unit.mock_engine import Engine

TINY = {"name": "tiny", "targets": [{"api_base": "http://tiny.default.svc:8000/v1"}]}
OTHER = {"name": "other", "targets": [{"api_base": "http://other.default.svc:8000/v1"}]}


def spec(**more) -> LlmGatewaySpec:
    given = {"image": "i@sha256:1", "python": "/e/bin/python", "pool": "services", "models": [TINY, OTHER]}
    return LlmGatewaySpec.model_validate({**given, **more})


def one(given: LlmGatewaySpec, kind: str) -> dict:
    return next(manifest for manifest in render(given) if manifest["kind"] == kind)


def pod(given: LlmGatewaySpec) -> dict:
    return one(given, "Deployment")["spec"]["template"]["spec"]


def config(given: LlmGatewaySpec) -> dict:
    return yaml.safe_load(one(given, "ConfigMap")["data"]["config.yaml"])


def readable(manifests: list[dict]) -> list[dict]:
    """Settings as data and not as text, and without the programs, which have a test of their own."""
    [settings] = [manifest for manifest in manifests if manifest["kind"] == "ConfigMap"]
    data = settings["data"]
    settings["data"] = {
        "config.yaml": yaml.safe_load(data["config.yaml"]),
        "policy.json": json.loads(data["policy.json"]),
    }
    return without_digest(manifests)


@pytest.mark.parametrize("case", cases("llm_gateway"), ids=lambda path: path.name)
def test_rendered_manifests_are_the_recorded_ones(case):
    given = LlmGatewaySpec.model_validate(yaml.safe_load((case / "spec.yaml").read_text()))
    check(case / "manifests.yaml", yaml.safe_dump_all(readable(render(given)), sort_keys=False))


@pytest.mark.parametrize("case", cases("llm_gateway"), ids=lambda path: path.name)
def test_the_config_has_the_form_litellm_understands(case):
    """Case T1: prefix, address with /v1 and no slash behind it, and a key from the environment."""
    given = LlmGatewaySpec.model_validate(yaml.safe_load((case / "spec.yaml").read_text()))
    made = LitellmConfig.model_validate(config(given))
    names = {variable["name"] for variable in pod(given)["containers"][0]["env"]}
    for deployment in made.model_list:
        assert deployment.litellm_params.model.startswith("hosted_vllm/")
        assert deployment.litellm_params.api_base.endswith("/v1")
        assert deployment.litellm_params.api_key.removeprefix("os.environ/") in names


PARAMS = {
    "model": "hosted_vllm/m",
    "api_base": "http://m.ns.svc:8000/v1",
    "api_key": "os.environ/UPSTREAM_KEY",
    "timeout": 1,
    "stream_timeout": 1,
}


@pytest.mark.parametrize(
    ("model_list", "message"),
    [
        ({"model_name": "m", "litellm_params": PARAMS}, "model_list\n.*valid tuple"),
        (
            [{"model_name": "m", "litellm-params": PARAMS}],
            "litellm_params\n.*required.*litellm-params\n.*Extra",
        ),
        (
            [{"model_name": "m", "litellm_params": {**PARAMS, "model": "vllm/m"}}],
            "model\n.*hosted_vllm|openai",
        ),
        ([{"model_name": "m", "litellm_params": {**PARAMS, "model": "m"}}], "model\n.*hosted_vllm|openai"),
        ([{"model_name": "m", "litellm_params": {**PARAMS, "api_base": "http://m:8000"}}], "api_base\n.*/v1"),
        ([{"model_name": "m", "litellm_params": {**PARAMS, "api_base": "http://m:8000/v1/"}}], "api_base\n"),
        ([{"model_name": "m", "litellm_params": {**PARAMS, "api_key": "sk-1"}}], "api_key\n.*os"),
        ([{"model_name": "m", "litellm_params": {**PARAMS, "api_key": None}}], "api_key\n.*valid string"),
        ([], "model_list\n.*at least 1"),
    ],
)
def test_what_litellm_would_misunderstand_is_named(model_list, message):
    """Case T1, the inputs of litellm issues 2322 and 5183."""
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        LitellmConfig.model_validate({"model_list": model_list})


def test_timeouts_reach_every_target():
    given = spec(total_seconds=7200, stall_seconds=60)
    for deployment in config(given)["model_list"]:
        assert deployment["litellm_params"]["timeout"] == 7200
        assert deployment["litellm_params"]["stream_timeout"] == 60


def test_a_canary_is_a_target_with_its_share():
    targets = [*TINY["targets"], {**OTHER["targets"][0], "served_name": "next", "weight": 9}]
    made = config(spec(models=[{**TINY, "targets": targets}]))["model_list"]
    assert [entry["model_name"] for entry in made] == ["tiny", "tiny"]
    assert [(e["litellm_params"]["model"], e["litellm_params"]["weight"]) for e in made] == [
        ("hosted_vllm/tiny", 1),
        ("hosted_vllm/next", 9),
    ]


def test_other_settings_mean_other_pods_and_other_keys_do_not():
    assert pod(spec()) != pod(spec(models=[TINY]))
    assert pod(spec()) != pod(spec(teams=[{"name": "a", "models": ["tiny"]}]))
    assert pod(spec()) == pod(spec())
    assert not any("data" in manifest for manifest in render(spec()) if manifest["kind"] == "Secret")


def test_the_programs_are_where_the_pod_starts_them():
    settings = one(spec(), "ConfigMap")["data"]
    command = pod(spec())["containers"][0]["command"]
    assert command[1] == f"{SETTINGS}/llm_gateway_server.py"
    hook = config(spec())["general_settings"]["custom_auth"]
    assert f"{hook.split('.')[0]}.py" in settings
    assert "llm_gateway_server.py" in settings
    for name, text in settings.items():
        if name.endswith(".py"):
            compile(text, name, "exec")
            assert "from modules" not in text, "no module of ours is in the pod"


def test_no_key_is_in_settings_arguments_or_variables():
    container = pod(spec(upstream_key="vllm-key"))["containers"][0]
    by_name = {variable["name"]: variable for variable in container["env"]}
    assert by_name["UPSTREAM_KEY"]["valueFrom"] == {"secretKeyRef": {"name": "vllm-key", "key": "key"}}
    assert not [name for name in by_name if "MASTER" in name], "made at each start, known to nobody"
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts[f"{KEYS}/active"]["readOnly"] is mounts[f"{KEYS}/blocked"]["readOnly"] is True
    assert not any("subPath" in mount for mount in mounts.values()), (
        "a subPath never changes while a pod runs"
    )


def test_streams_get_their_time_before_the_kill():
    given = spec(drain_timeout=100)
    container = pod(given)["containers"][0]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert variables["GRACEFUL_SHUTDOWN_TIMEOUT"] == "100"
    assert pod(given)["terminationGracePeriodSeconds"] == waits + 100 + SLACK_SECONDS
    deployment = one(given, "Deployment")
    waited = int(deployment["metadata"]["annotations"]["pulumi.com/timeoutSeconds"])
    assert (
        waited > deployment["spec"]["progressDeadlineSeconds"] > pod(given)["terminationGracePeriodSeconds"]
    )


def test_an_update_never_has_fewer_replicas():
    assert one(spec(), "Deployment")["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 1,
        "maxUnavailable": 0,
    }
    assert "PodDisruptionBudget" not in [manifest["kind"] for manifest in render(spec(replicas=1))]


def test_the_pod_can_write_nothing_but_its_memory_and_become_nobody_else():
    container = pod(spec())["containers"][0]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(spec())["securityContext"]["runAsNonRoot"] is True
    assert pod(spec())["automountServiceAccountToken"] is pod(spec())["enableServiceLinks"] is False
    writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/tmp"]


def test_a_trojan_reaches_names_and_targets_only():
    address = {"name": "far", "targets": [{"api_base": "https://192.0.2.7/v1"}]}
    pod_address = {"name": "pod", "targets": [{"api_base": "http://m-0.m.ai.svc:8000/v1"}]}
    policy = one(spec(models=[TINY, address, pod_address]), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    names, *targets = policy["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert [rule["ports"] for rule in targets] == [
        [{"protocol": "TCP", "port": 8000}],
        [{"protocol": "TCP", "port": 443}],
        [{"protocol": "TCP", "port": 8000}],
    ]
    assert targets[1]["to"] == [{"ipBlock": {"cidr": "192.0.2.7/32"}}]
    assert targets[0]["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "tiny"
    [peer] = targets[2]["to"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "m"
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "ai"}


DATABASE = {"addresses": ["192.0.2.20:5432", "192.0.2.21:5433"]}


def test_the_database_is_reached_at_its_addresses_and_its_password_is_no_variable():
    given = spec(database=DATABASE)
    rules = one(given, "NetworkPolicy")["spec"]["egress"][-2:]
    assert [(rule["to"][0]["ipBlock"]["cidr"], rule["ports"][0]["port"]) for rule in rules] == [
        ("192.0.2.20/32", 5432),
        ("192.0.2.21/32", 5433),
    ]
    container = pod(given)["containers"][0]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert variables["GATEWAY_DATABASE"] == "192.0.2.20:5432,192.0.2.21:5433"
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts[variables["GATEWAY_DATABASE_SECRET"]] == "database"
    secret = {"secretName": "llm-gateway-database", "defaultMode": 0o440}
    assert {"name": "database", "secret": secret} in pod(given)["volumes"]


@pytest.mark.parametrize("clients", [[], ["10.77.0.0/24"]])
def test_only_the_namespace_and_the_named_clients_reach_the_port(clients):
    rule, metrics = one(spec(clients=clients), "NetworkPolicy")["spec"]["ingress"]
    assert metrics["from"] == [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/component": "serving-slo"}}}
    ]
    assert metrics["ports"] == [{"protocol": "TCP", "port": 9400}]
    assert rule["from"] == [{"podSelector": {}}, *({"ipBlock": {"cidr": network}} for network in clients)]


def test_every_selector_finds_the_pods():
    labels = one(spec(), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert one(spec(), "Service")["spec"]["selector"] == labels
    assert one(spec(), "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    assert one(spec(), "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert one(spec(), "Deployment")["spec"]["selector"]["matchLabels"] == labels


def test_a_team_that_is_not_named_gets_the_default():
    def policy(**more) -> dict:
        return json.loads(one(spec(**more), "ConfigMap")["data"]["policy.json"])

    assert policy()["default"] == ["tiny", "other"]
    assert policy(default_models=[])["default"] == []
    assert policy(teams=[{"name": "a", "models": ["tiny"]}])["teams"] == {"a": ["tiny"]}


def target(**more) -> list[dict]:
    return [{**TINY, "targets": [{**TINY["targets"][0], **more}]}]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model": []}, "model\n.*Extra inputs"),
        ({"models": []}, "models\n.*at least 1"),
        ({"models": {"tiny": TINY}}, "models\n.*valid tuple"),
        ({"models": [TINY, TINY]}, "models: tiny is there twice"),
        ({"models": [{"name": "tiny", "targets": []}]}, "models.0.targets\n.*at least 1"),
        (
            {"models": [{**TINY, "fallbacks": ["gone"]}]},
            "models: tiny: fallbacks: no model gone; there is tiny",
        ),
        ({"models": [{**TINY, "fallbacks": ["tiny"]}]}, "models: tiny: it is its own fallback"),
        ({"models": [{**TINY, "name": "*"}]}, "models.0.name\n.*pattern"),
        ({"models": target(api_base="http://tiny:8000")}, "api_base\n.*pattern"),
        ({"models": target(api_base="http://tiny.default.svc:8000/v1/")}, "api_base\n.*pattern"),
        ({"models": target(api_base="https://api.example.org/v1")}, "api.example.org is neither"),
        ({"models": target(weight=0)}, "weight\n.*greater than or equal to 1"),
        (
            {"teams": [{"name": "a", "models": ["gone"]}]},
            "teams: a: models: no model gone; there is other, tiny",
        ),
        ({"teams": [{"name": "a", "models": []}] * 2}, "teams: a is there twice"),
        ({"teams": [{"name": "a.next", "models": []}]}, "a.next would be the second key of a"),
        ({"teams": [{"name": "a/b", "models": []}]}, "teams.0.name\n.*pattern"),
        ({"default_models": ["gone"]}, "default_models: no model gone"),
        ({"total_seconds": 10}, "stall_seconds: 300 is above total_seconds 10"),
        ({"active_keys": "k", "blocked_keys": "k"}, "blocked_keys: k also holds the active keys"),
        ({"name": "LLM"}, "upper case 'L'"),
        ({"node_port": 80}, "node_port\n.*greater than or equal to 30000"),
        ({"clients": ["10.77.0.1/24"]}, "clients.0\n.*IPv4 network"),
        ({"memory": 2**28}, "memory\n.*greater than or equal to 536870912"),
        ({"replicas": 0}, "replicas\n.*greater than or equal to 1"),
        ({"taints": ["x"]}, "taints.0\n.*pattern"),
        (
            {"teams": [{"name": "a", "token_budget": 5, "budget_seconds": 5}]},
            "teams: a: token_budget: budgets are kept in a database, and none is given",
        ),
        ({"database": {"addresses": []}}, "database.addresses\n.*at least 1"),
        ({"database": {"addresses": ["db.example.org:5432"]}}, "database.addresses.0\n.*pattern"),
        ({"database": {"addresses": ["192.0.2.999:5432"]}}, "database\n.*192.0.2.999"),
        ({"database": {"addresses": ["192.0.2.7:65536"]}}, "addresses: 192.0.2.7:65536 has no port"),
        (
            {"database": {"addresses": ["192.0.2.7:1"], "name": "Llm; drop"}},
            "database.name\n.*lower case letters",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_by_name(more, message):
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        spec(**more)


def test_the_component_applies_what_is_rendered_with_what_is_published_and_the_keys_of_the_program():
    engine = Engine()
    pulumi.runtime.set_mocks(engine, preview=False)

    @pulumi.runtime.test
    def program() -> None:
        published = pulumi.Output.from_input({"image": "new@sha256:2", "python": "/new/bin/python"})
        login = {"password": "of the database", "ca.crt": "CA"}
        gateway = LlmGateway(spec(database=DATABASE), published, keys={"team-a": "sk-a"}, login=login)
        assert gateway.url == "http://llm-gateway.default.svc:4000/v1"
        assert len(gateway.ready) == len(render(spec(database=DATABASE)))

    program()
    container = engine.made["llm-gateway-deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["command"][0]) == ("new@sha256:2", "/new/bin/python")
    keys = engine.made["llm-gateway-active"]["data"]
    assert keys["value"] == {"team-a": base64.b64encode(b"sk-a").decode()}
    login = engine.made["llm-gateway-database"]["data"]
    assert login["value"]["password"] == base64.b64encode(b"of the database").decode()
    for secret in (keys, login):
        assert secret["4dabf18193072939515e22adb298388d"] == "1b47061264138c4ac30d75fd1eb44270", (
            "a secret to Pulumi"
        )
    assert "data" not in engine.made["llm-gateway-blocked"]
