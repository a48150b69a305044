"""What modules/queues/kueue_upstream.json says is what Kueue's pinned Go module says."""

from pathlib import Path

import pytest

from tools.kueue_manifests import published, text, upstream

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

FILE = Path(__file__).parents[2] / "modules/queues/kueue_upstream.json"


@pytest.fixture(scope="module")
def config() -> Path:
    return published()


def test_the_file_is_what_the_pinned_module_ships(config: Path) -> None:
    assert FILE.read_text() == text(upstream(config)), "run: python -m tools.kueue_manifests"


def test_every_kind_of_the_module_is_in_it(config: Path) -> None:
    kinds = {
        path.stem.removeprefix("kueue.x-k8s.io_") for path in (config / "components/crd/bases").glob("*.yaml")
    }
    made = [found for found in upstream(config) if found["kind"] == "CustomResourceDefinition"]
    assert {found["spec"]["names"]["plural"] for found in made} == kinds


def test_fields_that_are_called_description_are_kept(config: Path) -> None:
    [kind] = [
        found
        for found in upstream(config)
        if found["metadata"]["name"] == "workloadpriorityclasses.kueue.x-k8s.io"
    ]
    for version in kind["spec"]["versions"]:
        assert version["schema"]["openAPIV3Schema"]["properties"]["description"]["type"] == "string"
        assert "description" not in version["schema"]["openAPIV3Schema"]
