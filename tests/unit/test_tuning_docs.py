"""docs/fine-tuning-data.md says what the code does: kinds of findings, keys and defaults of a recipe."""

import re
from pathlib import Path

import pytest

from sitewright.site.problems import SiteFileError
from sitewright.tuning import dataset, dataset_file, dataset_rows, leakage
from sitewright.tuning.recipe import Lora, Recipe, load

TEXT = (Path(__file__).parents[2] / "docs/fine-tuning-data.md").read_text()
MODULES = (dataset, dataset_file, dataset_rows, leakage)


def rows() -> list[list[str]]:
    """Cells of all tables."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line[:1] == "|"
    ]


def test_every_kind_of_finding_is_explained_with_its_severity():
    described = {
        (kind, severity)
        for kinds, _, severity in rows()
        if severity in ("error", "warning")
        for kind in re.findall(r"`([a-z0-9-]+)`", kinds)
    }
    calls = [call for module in MODULES for call in _calls(Path(module.__file__).read_text())]
    assert {(kind, "warning" if '"warning"' in call else "error") for kind, call in calls} == described


def _calls(source: str) -> list[tuple[str, str]]:
    """Kind and text of every Fault( … ) of a module, to the end of its statement."""
    return re.findall(r'Fault\(\s*"([a-z0-9-]+)"(.*?)\)\]?(?:, \[\])?\n', source, re.DOTALL)


def test_every_key_with_a_default_is_there_with_that_default():
    described = {
        key.strip("`"): default for key, default, _ in rows() if key.startswith("`") and key.count("`") == 2
    }
    defaults = {
        name: field.default
        for name, field in Recipe.model_fields.items()
        if not field.is_required() and field.default is not None
    }
    defaults |= {f"lora.{name}": field.default for name, field in Lora.model_fields.items()}
    assert {key: str(default) for key, default in defaults.items()}.items() <= described.items()


def test_the_recipe_of_the_document_is_a_good_one(tmp_path):
    [block] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "recipe.yaml").write_text(block)
    given = load(tmp_path / "recipe.yaml")
    required = {name for name, field in Recipe.model_fields.items() if field.is_required()}
    assert required <= given.model_fields_set


def test_the_row_of_the_document_is_a_good_one(tmp_path):
    [block] = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "train.jsonl").write_text(block)
    report = dataset.check(tmp_path / "train.jsonl", None, 2048, None)
    assert (report.train.usable, report.findings) == (1, [])


def test_what_the_document_says_is_refused_is_refused(tmp_path):
    refused = re.findall(r"`([a-z_]+)`", TEXT.partition("Some are refused on purpose")[2])
    for key in set(refused) - {"rank"}:
        (tmp_path / "recipe.yaml").write_text(f"method: lora\nlora: {{{key}: x}}\n")
        with pytest.raises(SiteFileError, match=rf"lora\.{key}: not offered: "):
            load(tmp_path / "recipe.yaml")
