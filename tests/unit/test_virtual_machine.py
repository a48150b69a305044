"""The VirtualMachine module: golden manifests, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from modules.machines.virtual_machine import VirtualMachineSpec, render

CASES = sorted((Path(__file__).parent.parent / "data" / "virtual_machine").iterdir())
VALID = yaml.safe_load((CASES[-1] / "spec.yaml").read_text())


def spec(**changes: Any) -> VirtualMachineSpec:
    return VirtualMachineSpec.model_validate({**VALID, **changes})


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_rendered_manifests_are_the_recorded_ones(case: Path) -> None:
    given = VirtualMachineSpec.model_validate(yaml.safe_load((case / "spec.yaml").read_text()))
    recorded = list(yaml.safe_load_all((case / "manifests.yaml").read_text()))
    assert render(given, storage_class="lh-1234") == recorded


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gpu": 1}, "gpu\n.*Extra inputs"),
        ({"name": "svc_cp"}, "name\n.*pattern"),
        ({"name": "SVC"}, "name\n.*pattern"),
        ({"name": "a" * 54}, "name\n.*at most 53"),
        ({"image": "debian-12"}, "image\n.*pattern"),
        ({"network": "nodes"}, "network\n.*pattern"),
        ({"cpus": 0}, "cpus\n.*greater than or equal to 1"),
        ({"memory": 1024}, "memory\n.*greater than or equal to 536870912"),
        ({"disk": 1024}, "disk\n.*greater than or equal to 1073741824"),
        ({"address": "10.77.0.300"}, "address\n.*not a valid IPv4"),
        ({"prefix_length": 31}, "prefix_length\n.*less than or equal to 30"),
        ({"gateway": "10.78.0.1"}, "gateway 10.78.0.1 is not another address of 10.77.0.0/24"),
        ({"gateway": VALID["address"]}, "gateway .* is not another address"),
        ({"mac": "52:54:00:4D:00:1E"}, "mac\n.*pattern"),
        ({"mac": "52:54:00:4d:00"}, "mac\n.*pattern"),
        ({"ssh_keys": []}, "ssh_keys\n.*at least 1 item"),
        ({"ssh_keys": ["AAAA"]}, "key 1 is not one line"),
        (
            {"ssh_keys": ["ssh-ed25519 AAAA", "-----BEGIN OPENSSH PRIVATE KEY-----\nx"]},
            "key 2 is a private key",
        ),
        ({"run_strategy": "Manual"}, "run_strategy\n.*RerunOnFailure"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_spec_is_refused_by_the_field_that_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        spec(**changes)


def test_wrong_user_data_is_refused_without_showing_it() -> None:
    with pytest.raises(ValidationError, match="line 2: begins with a tab") as refused:
        spec(user_data="#cloud-config\n\tpassword: hunter2\n")
    assert "hunter2" not in str(refused.value)


def test_user_data_with_keys_of_its_own_must_have_the_sites_key() -> None:
    with pytest.raises(ValidationError, match="lacks the site's own key"):
        spec(user_data="#cloud-config\nssh_authorized_keys: [ssh-ed25519 BBBB else]\n")


def test_a_spec_does_not_show_its_user_data() -> None:
    assert "hunter2" not in repr(spec(user_data="#cloud-config\npassword: hunter2\n"))


HEADER = "#cloud-config\n# "


@pytest.mark.parametrize(
    "text",
    [
        HEADER.ljust(2048, "x"),
        HEADER.ljust(2049, "x"),
        HEADER.ljust(1026, "é"),  # 2,036 bytes
        HEADER.ljust(1033, "é"),  # 2,050 bytes, as many as 1,025 of this letter
        HEADER.ljust(20_000, "é"),
    ],
    ids=lambda text: f"{len(text.encode())}-bytes",
)
def test_user_data_is_always_a_secret_whatever_its_size(text: str) -> None:
    """The API refuses more than 2048 bytes inline: harvester/harvester#760, kubevirt/kubevirt#2602, #4033."""
    secret, machine = render(spec(user_data=text), storage_class="lh-1234")
    assert secret["stringData"]["userdata"].startswith(text)
    [source] = [
        v["cloudInitNoCloud"]
        for v in machine["spec"]["template"]["spec"]["volumes"]
        if "cloudInitNoCloud" in v
    ]
    assert source == {
        "secretRef": {"name": secret["metadata"]["name"]},
        "networkDataSecretRef": {"name": secret["metadata"]["name"]},
    }
