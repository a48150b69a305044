"""What `sitewright lint` finds in manifests, ours and others', and what it lets pass."""

import json

import pytest
import yaml
from click.testing import CliRunner

from modules.inference.vllm_pod import VllmServiceSpec
from modules.inference.vllm_service import render
from sitewright.cli import main
from sitewright.lint.rules import RULES
from sitewright.site.files import REPOSITORY

GPUS = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
SHELL = "vllm serve /models/m \\\n  --tensor-parallel-size 2 --shutdown_timeout=600"


def sound(**spec) -> list[dict]:
    """What modules/inference/vllm_service.py renders, which has nothing to be found."""
    given = {
        "name": "chat",
        "image": "i@sha256:1",
        "python": "/e/bin/python",
        "model_path": "/m",
        "pool": "gpu",
    }
    return render(VllmServiceSpec.model_validate({**given, "cpus": 2, "memory": 2**34, "gpus": 2, **spec}))


def pod(manifests: list[dict]) -> dict:
    return manifests[-1]["spec"]["template"]["spec"]


def foreign(*words: str, container: dict | None = None, **spec) -> list[dict]:
    """A Deployment as a chart might have it."""
    made = {"name": "vllm", "image": "vllm/vllm-openai:v0.32", "args": list(words), **(container or {})}
    body = {"replicas": 1, "template": {"metadata": {"labels": {"app": "m"}}, "spec": {"containers": [made]}}}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "m"}, "spec": {**body, **spec}}
    ]


def found(tmp_path, manifests: list[dict], *options: str) -> dict[str, str]:
    """Rule → message."""
    file = tmp_path / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(manifests))
    done = CliRunner().invoke(main, ["lint", str(file), "--format", "json", *options])
    findings = json.loads(done.output)
    assert done.exit_code == any(finding["severity"] == "error" for finding in findings)
    assert all(finding["fix"] and finding["source"] for finding in findings)
    return {finding["rule"]: finding["message"] for finding in findings}


@pytest.mark.parametrize("spec", [{}, {"gpus": 0}, {"replicas": 1}, {"gpus": 4}, {"adapters": "/shared/a"}])
def test_what_we_render_is_sound(tmp_path, spec):
    assert found(tmp_path, sound(**spec), "--diskless") == {}


def test_what_is_no_vllm_is_not_looked_at(tmp_path):
    container = {"name": "nginx", "image": "nginx", "args": ["serve"]}
    manifests = foreign(container=container)
    manifests[0]["spec"]["replicas"] = 3
    assert found(tmp_path, manifests) == {}


def test_case_l1_a_service_named_vllm(tmp_path):
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "vllm"}, "spec": {}}
    manifests = [service, *foreign("--model", "m")]
    assert "VLLM_PORT" in found(tmp_path, manifests)["service-links"]
    service["metadata"]["name"] = "vllm-svc"
    assert "service-links" not in found(tmp_path, manifests)
    service["metadata"]["name"] = "vllm"
    pod(manifests)["enableServiceLinks"] = False
    assert "service-links" not in found(tmp_path, manifests)
    del pod(manifests)["enableServiceLinks"]
    service["metadata"]["namespace"] = "elsewhere"
    assert "service-links" not in found(tmp_path, manifests)


def test_case_l3a_shared_memory(tmp_path):
    two = {"resources": {"limits": {"nvidia.com/gpu": 2}}}
    said = found(tmp_path, foreign("--tensor-parallel-size", "2", container=two))
    assert "64 MiB" in said["shared-memory"]
    assert "gpu-count" not in said


@pytest.mark.parametrize(
    "words",
    [
        ["--tensor-parallel-size=2"],
        ["--tensor-parallel-size", "2"],
        ["--tensor_parallel_size=2"],
        ["-tp", "2"],
    ],
)
def test_case_l3b_more_parts_than_gpus(tmp_path, words):
    assert "(2 > 1)" in found(tmp_path, foreign(*words, container=GPUS))["gpu-count"]


def test_case_l3c_a_group_has_the_gpus_of_all_its_pods(tmp_path):
    container = {
        "name": "vllm",
        "command": ["vllm", "serve", "m", "--tensor-parallel-size", "4", "--pipeline-parallel-size", "2"],
        "resources": {"limits": {"nvidia.com/gpu": "4"}},
    }
    template = {"spec": {"containers": [container]}}
    group = {"kind": "LeaderWorkerSet", "metadata": {"name": "m"}}
    group["spec"] = {"leaderWorkerTemplate": {"size": 2, "workerTemplate": template}}
    assert "gpu-count" not in found(tmp_path, [group])
    group["spec"]["leaderWorkerTemplate"]["size"] = 1
    assert "(8 > 4)" in found(tmp_path, [group])["gpu-count"]


def test_case_l4_killed_while_it_loads_and_an_update_that_waits_for_ever(tmp_path):
    probe = {"httpGet": {"path": "/health", "port": 8000}}
    container = {"livenessProbe": {**probe, "initialDelaySeconds": 120}}
    container |= {"resources": {"limits": {"nvidia.com/gpu": "8"}}}
    said = found(tmp_path, foreign("--model", "m", container=container))
    assert "150 s" in said["startup-probe"]
    assert "spare GPUs" in said["roll-out"]
    container["startupProbe"] = {**probe, "failureThreshold": 180}
    mended = found(tmp_path, foreign("--model", "m", container=container, strategy={"type": "Recreate"}))
    assert not {"startup-probe", "roll-out"} & mended.keys()


def test_a_command_in_a_shell_is_read(tmp_path):
    container = {"image": "i@sha256:1", "command": ["/bin/sh", "-c", SHELL], "args": [], **GPUS}
    said = found(tmp_path, foreign(container=container))
    assert {"gpu-count", "shared-memory", "pre-stop"} <= said.keys()
    assert "drain" not in said
    assert "615 s" in said["grace-period"]


BROKEN = {
    "drain": lambda m: _without(m, "--shutdown-timeout"),
    "pre-stop": lambda m: pod(m)["containers"][0].pop("lifecycle"),
    "grace-period": lambda m: pod(m).update(terminationGracePeriodSeconds=60),
    "startup-probe": lambda m: pod(m)["containers"][0].pop("startupProbe"),
    "readiness-timeout": lambda m: pod(m)["containers"][0]["readinessProbe"].pop("timeoutSeconds"),
    "roll-out": lambda m: m[-1]["spec"].pop("strategy"),
    "disruption-budget": lambda m: m.pop(-2),
    "network-policy": lambda m: m.pop(0),
    "key-in-arguments": lambda m: pod(m)["containers"][0]["args"].append("--api-key=secret"),
    "image-digest": lambda m: pod(m)["containers"][0].update(image="i:latest"),
    "empty-dir-size": lambda m: pod(m)["volumes"].append({"name": "x", "emptyDir": {}}),
    "queue-limit": lambda m: _without(m, "--max-num-queued-reqs"),
    "developer-mode": lambda m: _environment(m, VLLM_SERVER_DEV_MODE="1"),
    "lora-servers": lambda m: (
        _environment(m, VLLM_ALLOW_RUNTIME_LORA_UPDATING="1"),
        pod(m)["containers"][0]["args"].append("--api-server-count=2"),
    ),
    "shared-memory": lambda m: pod(m)["volumes"].pop(1),
    "gpu-count": lambda m: pod(m)["containers"][0].update(GPUS),
    "service-links": lambda m: (
        pod(m).pop("enableServiceLinks"),
        m.insert(0, {"kind": "Service", "metadata": {"name": "vllm", "namespace": "default"}}),
    ),
    "shared-volume": lambda m: (
        pod(m)["volumes"].append({"name": "x", "persistentVolumeClaim": {"claimName": "weights"}}),
        m.insert(0, {"kind": "PersistentVolumeClaim", "metadata": {"name": "weights"}, "spec": ONCE}),
    ),
}
ONCE = {"accessModes": ["ReadWriteOnce"]}


def _without(manifests, flag):
    arguments = pod(manifests)["containers"][0]["args"]
    at = arguments.index(flag)
    del arguments[at : at + 2]


def _environment(manifests, **values):
    pod(manifests)["containers"][0]["env"] += [
        {"name": name, "value": value} for name, value in values.items()
    ]


def test_every_rule_has_an_example_here():
    assert {rule.id for rule in RULES} == BROKEN.keys()


@pytest.mark.parametrize("name", BROKEN)
def test_a_rule_finds_what_it_is_for_and_nothing_else_does(tmp_path, name):
    manifests = sound()
    BROKEN[name](manifests)
    assert found(tmp_path, manifests).keys() == {name}


@pytest.mark.parametrize(
    "budget", [{"minAvailable": 2}, {"minAvailable": "100%"}, {"maxUnavailable": 0}, {"maxUnavailable": "0%"}]
)
def test_a_budget_that_blocks_every_drain_is_named(tmp_path, budget):
    manifests = sound()
    manifests[-2]["spec"] = {"selector": manifests[-2]["spec"]["selector"], **budget}
    assert "no node can be drained" in found(tmp_path, manifests)["disruption-budget"]


def test_a_metric_that_was_renamed_is_named_wherever_it_is_asked_for(tmp_path):
    scaled = {"kind": "ScaledObject", "metadata": {"name": "s"}}
    scaled["spec"] = {"triggers": [{"metadata": {"query": "avg(vllm:gpu_cache_usage_perc)"}}]}
    assert "gpu_cache_usage_perc" in found(tmp_path, [{"kind": "List", "items": [scaled]}])["metric-name"]


@pytest.mark.parametrize(
    ("text", "says"), [("a: [", "no YAML"), ("a: 1", "has no `kind`"), ("- kind: Pod", "has no `kind`")]
)
def test_what_is_no_manifest_is_named(tmp_path, text, says):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    done = CliRunner().invoke(main, ["lint", str(file)])
    assert done.exit_code == 2
    assert says in done.output


def test_a_file_or_directory_without_manifests_is_named(tmp_path):
    for path in (tmp_path / "absent.yaml", tmp_path):
        done = CliRunner().invoke(main, ["lint", str(path)])
        assert (done.exit_code, str(path) in done.output) == (2, True)


def test_the_text_names_place_object_fix_and_reason(tmp_path):
    file = tmp_path / "m.yaml"
    file.write_text(yaml.safe_dump_all(foreign("--model", "m")))
    said = CliRunner().invoke(main, ["lint", str(file)]).output
    assert f"{file}#1: Deployment default/m: error:" in said
    assert "  do: lifecycle: {preStop" in said
    assert "  why: production-stack issue 601" in said


def test_the_document_lists_the_rules_as_they_are():
    text = (REPOSITORY / "docs/lint.md").read_text()
    for rule in RULES:
        assert f"| `{rule.id}` | {rule.severity} | {rule.source} |" in text
