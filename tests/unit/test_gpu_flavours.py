"""What the kind of node decides, and what of it a site file gets wrong."""

import pytest
import yaml
from pydantic import ValidationError

from modules.inference.gpu_flavours import FLAVOURS, GB, GIB
from modules.inference.vllm_pod import VllmServiceSpec
from modules.inference.vllm_service import render
from modules.tuning.fine_tuning import FineTuningSpec
from modules.tuning.fine_tuning import render as render_fine_tuning
from sitewright.lint.manifests import read
from sitewright.lint.rules import lint
from sitewright.site import load
from sitewright.site.files import REPOSITORY

GIVEN = {"name": "chat", "image": "i@sha256:1", "python": "/e/bin/python", "model_path": "/m", "pool": "gpu"}


def spec(**more) -> VllmServiceSpec:
    return VllmServiceSpec.model_validate({**GIVEN, "cpus": 2, "memory": 64 * GIB, **more})


def pod(**more) -> dict:
    return render(spec(**more))[-1]["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("flavour", "arch"), [("gh200", "arm64"), ("h100", "amd64"), ("cpu", None), (None, None)]
)
def test_what_was_built_for_one_architecture_asks_for_it(flavour, arch):
    gpus = 0 if flavour == "cpu" else 1
    assert pod(flavour=flavour, gpus=gpus)["nodeSelector"].get("kubernetes.io/arch") == arch


def test_a_fine_tuning_run_asks_for_it_too():
    given = {"pool": "gpu", "cpus": 1, "memory": GIB, "publish_dir": "/p", "flavour": "gh200"}
    text = render_fine_tuning(FineTuningSpec.model_validate(given))[-1]["data"]["template.json"]
    assert yaml.safe_load(text)["node_selector"]["kubernetes.io/arch"] == "arm64"


@pytest.mark.parametrize("gpus", [1, 4])
def test_a_replica_of_any_size_is_bound_where_memory_has_several_domains(gpus):
    assert "--numa-bind" in pod(flavour="gh200", gpus=gpus)["containers"][0]["args"]
    assert "--numa-bind" not in pod(gpus=gpus)["containers"][0]["args"]
    assert "--numa-bind" not in pod(flavour="cpu", gpus=0)["containers"][0]["args"]


@pytest.mark.parametrize(
    ("flavour", "gpus", "size"), [("gh200", 1, "4Gi"), ("gh200", 4, "16Gi"), ("h100", 8, "32Gi")]
)
def test_shared_memory_follows_the_gpus(flavour, gpus, size):
    volumes = {one["name"]: one for one in pod(flavour=flavour, gpus=gpus)["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": size}


@pytest.mark.parametrize(
    ("flavour", "weights", "split"),
    [
        ("gh200", 60, 1),
        ("gh200", 141, 2),
        ("gh200", 160, 2),
        ("gh200", 161, 4),
        ("gh200", 321, None),
        ("h100", 321, 8),
    ],
)
def test_a_model_is_split_over_as_few_gpus_as_hold_it(flavour, weights, split):
    assert FLAVOURS[flavour].tensor_parallel(weights * GB) == split


def test_more_gpus_than_a_node_has_are_refused():
    with pytest.raises(ValidationError, match="gpus: 8, and a node of gh200 has 4 at most"):
        spec(flavour="gh200", gpus=8)


@pytest.mark.parametrize("flavour", ["gh200", "h100"])
def test_lint_has_nothing_to_say_of_it(tmp_path, flavour):
    (tmp_path / "chat.yaml").write_text(yaml.safe_dump_all(render(spec(flavour=flavour, gpus=4))))
    assert lint(read([tmp_path / "chat.yaml"]), diskless=True) == []


@pytest.mark.parametrize(("memory", "warned"), [("16Gi", False), ("17Gi", True)])
def test_memory_beyond_the_share_of_its_gpus_is_a_warning(tmp_path, memory, warned):
    base = yaml.safe_load((REPOSITORY / "tests/data/site/base.yaml").read_text())
    base["pools"][0]["flavour"] = "gh200"
    base["services"]["models"][0] |= {"gpus": 1, "memory": memory}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    found = [
        problem for problem in load(tmp_path / "base.yaml").warnings if "share of a node" in str(problem)
    ]
    assert bool(found) == warned
