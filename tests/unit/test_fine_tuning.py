"""What a cluster offers for fine-tuning, and the Job that one run becomes."""

import json
import re

import pytest
import yaml
from pydantic import ValidationError

from modules.inference.vllm_pod import MAX_LORA_RANK, VllmServiceSpec
from modules.inference.vllm_service import render as render_service
from modules.tuning.fine_tuning import PROGRAMS, FineTuningSpec, render
from sitewright.tuning.template import (
    CONFIG_MAP,
    GRACE,
    HOPELESS,
    MODULE,
    PROGRAM,
    STOPPED,
    TEMPLATE,
    TrainingTemplate,
    job,
)
from tests.unit.golden import DATA, check

GIB = 2**30
TINY = {
    "path": "/shared/models/tiny",
    "digest": "sha256:1",
    "python": "/shared/environments/e/bin/python",
    "image": "i@sha256:2",
}


def spec(**more) -> FineTuningSpec:
    given = {"pool": "gpu", "cpus": 2, "memory": 2 * GIB, "publish_dir": "/export", "models": {"tiny": TINY}}
    return FineTuningSpec.model_validate({**given, **more})


def template(**more) -> TrainingTemplate:
    config_map = render(spec(**more))[-1]
    return TrainingTemplate.model_validate_json(config_map["data"][TEMPLATE])


def pod(**more) -> dict:
    return job(template(**more), "trial-1", "tiny", 3600)["spec"]["template"]["spec"]


@pytest.mark.parametrize("gpus", [0, 1, 4])
def test_the_job_of_a_run_is_the_recorded_one(gpus):
    made = job(template(gpus=gpus, taints=["sitewright.dev/gpu=true:NoSchedule"]), "trial-1", "tiny", 3600)
    check(DATA / "fine_tuning" / f"job-{gpus}-gpus.yaml", yaml.safe_dump(made, sort_keys=False))


def test_the_program_that_trains_is_the_one_of_this_checkout():
    data = render(spec())[-1]["data"]
    assert {name: data[name] for name in PROGRAM} == PROGRAMS
    assert MODULE.replace(".", "/") + ".py" in {f"modules/tuning/{name}" for name in PROGRAM}
    for name, text in PROGRAMS.items():
        compile(text, name, "exec")
        for used in re.findall(r"from modules\.tuning(?:\.| import )(\w+)", text):
            assert f"{used}.py" in PROGRAM, f"{name} imports {used}, which no pod has"
    assert len(json.dumps(data)) < 900_000, "a ConfigMap holds 1 MiB"


def test_a_run_writes_into_its_own_directory_and_nowhere_else():
    container = pod()["containers"][0]
    writable = {
        mount["mountPath"]
        for mount in container["volumeMounts"]
        if not mount.get("readOnly") and not mount["mountPath"].startswith(("/tmp", "/dev"))
    }
    assert writable == {"/shared/runs/trial-1"}
    assert container["command"] == [TINY["python"], "-m", MODULE, "/shared/runs/trial-1"]
    config_map = next(volume for volume in pod()["volumes"] if volume["name"] == "entry")["configMap"]
    assert config_map["name"] == CONFIG_MAP


def test_a_run_that_was_interrupted_goes_on_and_one_that_is_hopeless_does_not():
    rules = job(template(), "trial-1", "tiny", 3600)["spec"]["podFailurePolicy"]["rules"]
    actions = {
        status: rule["action"]
        for rule in rules
        for status in rule.get("onExitCodes", {}).get("values", ["disrupted"])
    }
    assert actions == {"disrupted": "Ignore", STOPPED: "Ignore", HOPELESS: "FailJob"}


def test_the_next_pod_waits_until_the_last_one_has_let_go_of_the_directory():
    made = job(template(), "trial-1", "tiny", 3600)["spec"]
    assert made["podReplacementPolicy"] == "Failed"
    assert made["template"]["spec"]["terminationGracePeriodSeconds"] == GRACE >= 600
    assert made["template"]["spec"]["restartPolicy"] == "Never"


def test_a_run_reaches_nobody_and_is_reached_by_nobody():
    (policy,) = [found for found in render(spec()) if found["kind"] == "NetworkPolicy"]
    assert policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_a_served_model_finds_published_adapters_by_their_names():
    given = {"name": "tiny", "image": "i", "python": "/e/bin/python", "model_path": "/m", "pool": "gpu"}
    served = VllmServiceSpec.model_validate(
        {**given, "cpus": 2, "memory": GIB, "adapters": "/shared/adapters/tiny"}
    )
    container = render_service(served)[-1]["spec"]["template"]["spec"]["containers"][0]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["VLLM_LORA_RESOLVER_CACHE_DIR"] == "/shared/adapters/tiny"
    assert environment["VLLM_PLUGINS"] == "lora_filesystem_resolver"
    arguments = container["args"]
    assert "--enable-lora" in arguments
    assert arguments[arguments.index("--max-lora-rank") + 1] == str(MAX_LORA_RANK)


@pytest.mark.parametrize(
    "wrong", [{"pool": "GPU"}, {"taints": ["broken"]}, {"memory": 1}, {"models": {"tiny": {"path": "/m"}}}]
)
def test_a_wrong_spec_is_refused(wrong):
    with pytest.raises(ValidationError):
        spec(**wrong)
