"""The lab's stack and the configuration file that a checkout keeps for it."""

from pathlib import Path

import pytest

from lab.deploy import drop_foreign_salt

OURS, OTHERS = "v1:b3Vycw==:v1:bm9uY2U=:Y2hlY2s=", "v1:b3RoZXJz:v1:bm9uY2U=:Y2hlY2s="


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    """As the file backend lays it out."""
    stacks = tmp_path / "pulumi/.pulumi/stacks/sitewright"
    stacks.mkdir(parents=True)
    (stacks / "lab.json").write_text(f'{{"secrets_providers": {{"state": {{"salt": "{OURS}"}}}}}}')
    return tmp_path / "pulumi"


@pytest.mark.parametrize(
    ("salt", "left"),
    [(OURS, f"encryptionsalt: {OURS}\n"), (OTHERS, "")],
    ids=["of this lab", "of another lab"],
)
def test_only_the_salt_of_another_lab_is_dropped(tmp_path: Path, backend: Path, salt: str, left: str) -> None:
    config = tmp_path / "Pulumi.lab.yaml"
    config.write_text(f"encryptionsalt: {salt}\nconfig:\n  sitewright:environment: lab\n")
    drop_foreign_salt(config, backend)
    assert config.read_text() == f"{left}config:\n  sitewright:environment: lab\n"


def test_a_salt_is_dropped_where_the_backend_has_no_stack(tmp_path: Path) -> None:
    config = tmp_path / "Pulumi.lab.yaml"
    config.write_text(f"encryptionsalt: {OTHERS}\n")
    drop_foreign_salt(config, tmp_path / "none")
    assert config.read_text() == ""


def test_a_checkout_without_configuration_stays_without(tmp_path: Path, backend: Path) -> None:
    drop_foreign_salt(tmp_path / "Pulumi.lab.yaml", backend)
    assert not (tmp_path / "Pulumi.lab.yaml").exists()
