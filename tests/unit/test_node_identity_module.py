"""What runs on the control planes so that nodes get their identity, and what it may do there."""

import ast
import sys

import pytest
import yaml
from pydantic import ValidationError

from modules.nodes.node_identity import PROGRAMS, SERVICE, SIGNER, NodeIdentitySpec, render
from tests.unit.golden import cases, check, without_digest

VALID = {"pools": ["gpu"], "smd": "http://10.77.0.1:27779", "bss": "http://10.77.0.1:27778"}
# What images/containers/node-identity has, beside Python itself.
INSTALLED = {"cryptography", "fastapi", "httpx", "limits", "uvicorn", "modules"}


def spec(**more) -> NodeIdentitySpec:
    return NodeIdentitySpec.model_validate({**VALID, **more})


@pytest.mark.parametrize("case", cases("node_identity"), ids=lambda path: path.name)
def test_rendered_manifests_are_the_recorded_ones(case):
    manifests = render(NodeIdentitySpec.model_validate(yaml.safe_load((case / "spec.yaml").read_text())))
    [program] = [manifest for manifest in manifests if manifest["kind"] == "ConfigMap"]
    program["data"] = "the programs, which have tests of their own"
    check(case / "manifests.yaml", yaml.safe_dump_all(without_digest(manifests), sort_keys=False))


def test_it_can_approve_requests_of_one_signer_only():
    [role] = [manifest for manifest in render(spec()) if manifest["kind"] == "ClusterRole"]
    [signers] = [rule for rule in role["rules"] if rule["resources"] == ["signers"]]
    assert signers["resourceNames"] == [SIGNER]
    assert not any("*" in (*rule["verbs"], *rule["resources"], *rule["apiGroups"]) for rule in role["rules"])


def test_what_the_pod_runs_needs_nothing_that_its_image_lacks():
    for name, text in PROGRAMS.items():
        for found in ast.walk(ast.parse(text)):
            imported = found.module if isinstance(found, ast.ImportFrom) else None
            names = (
                [alias.name for alias in found.names] if isinstance(found, ast.Import) else [imported or ""]
            )
            for one in filter(None, names):
                assert one.partition(".")[0] in INSTALLED | sys.stdlib_module_names, f"{name} imports {one}"
                if one.startswith("modules"):
                    assert one.startswith(f"modules.nodes.{SERVICE.name}"), f"{name} imports {one}"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pools": []}, "pools"),
        ({"smd": "10.77.0.1"}, "smd"),
        ({"boot_seconds": 5}, "boot_seconds"),
        ({"certificate_seconds": 60}, "certificate_seconds"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"port": 1}, "port"),
    ],
)
def test_what_cannot_be_is_refused(given, said):
    with pytest.raises(ValidationError, match=said):
        spec(**given)
