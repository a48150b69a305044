"""Versions of a collection as directories, and the command line around them."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from sitewright.cli import main
from sitewright.errors import SitewrightError
from sitewright.retrieval import build, scores, versions

EXAMPLE = Path(__file__).parents[2] / "docs/examples/retrieval/manuals"


def version(collection: Path, content: bytes = b"index") -> str:
    made = collection / ".made"
    made.mkdir(parents=True)
    (made / versions.INDEX).write_bytes(content)
    told = {"digest": hashlib.sha256(content).hexdigest(), "documents": 2, "passages": 3, "built": "2026"}
    (made / versions.MANIFEST).write_text(json.dumps(told))
    return versions.keep(made, collection).name


@pytest.fixture
def site(tmp_path) -> Path:
    file = tmp_path / "site.yaml"
    lab = Path(__file__).parents[2] / "environments/lab.yaml"
    file.write_text(f"extends: {lab}\nname: site\nshared_filesystem: {{publish_dir: {tmp_path}}}\n")
    return file


def call(site: Path, *words: str):
    return CliRunner().invoke(main, ["retrieval", *words, "-e", str(site)])


def test_versions_are_numbered_and_one_is_used(tmp_path):
    assert [version(tmp_path), version(tmp_path)] == ["v1", "v2"]
    assert versions.current(tmp_path) is None
    for name in ("v1", "v2", "v1"):
        versions.use(tmp_path, name)
        assert versions.current(tmp_path) == name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "v1", "v2"]
    assert (tmp_path / "current").readlink() == Path("v1"), "relative: nodes see another path"


def test_pods_may_read_a_version_whatever_the_umask(tmp_path):
    directory = tmp_path / version(tmp_path)
    assert directory.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o644}


def test_a_version_is_never_reused(tmp_path):
    version(tmp_path)
    version(tmp_path)
    for path in (tmp_path / "v1").iterdir():
        path.unlink()
    (tmp_path / "v1").rmdir()
    assert version(tmp_path) == "v3"


def test_a_damaged_version_is_refused_and_the_one_before_stays(tmp_path):
    version(tmp_path)
    versions.use(tmp_path, "v1")
    (tmp_path / version(tmp_path, b"longer") / versions.INDEX).write_bytes(b"long")
    with pytest.raises(SitewrightError, match=r"is not the file that was built; v1 stays in use"):
        versions.use(tmp_path, "v2")
    with pytest.raises(SitewrightError, match=r"no version 'v7'; there is v1, v2"):
        versions.use(tmp_path, "v7")
    assert versions.current(tmp_path) == "v1"


def test_the_command_line_shows_and_switches(site, tmp_path):
    assert "No versions yet" in call(site, "list").output
    collection = versions.place(tmp_path, "manuals")
    version(collection)
    version(collection)
    assert call(site, "use", "manuals", "v1").output == "manuals v1 is in use\n"
    done = call(site, "use", "manuals", "v2")
    assert done.output == "manuals v2 is in use\nUndo: sitewright retrieval use manuals v1\n"
    rows = [line.split() for line in call(site, "list").output.splitlines()]
    assert [row[:3] for row in rows[1:]] == [["manuals", "v1", "2"], ["manuals", "v2", "yes"]]
    assert call(site, "use", "manuals", "v3").exit_code == 1
    unknown = call(site, "use", "manual", "v1")
    assert (unknown.exit_code, "there is manuals" in unknown.output) == (2, True)


def test_a_dry_run_reads_and_changes_nothing(site, tmp_path):
    done = call(site, "build", "manuals", "--from", str(EXAMPLE), "--dry-run")
    assert (done.exit_code, done.output) == (0, "20 documents, 20 passages; nothing was changed\n")
    assert not (tmp_path / versions.DIRECTORY).exists()


def test_documents_with_faults_are_not_built(site, tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents/a.md").write_bytes(b"\xff")
    done = call(site, "build", "manuals", "--from", str(tmp_path / "documents"))
    assert done.exit_code == 2
    assert "a.md: error: not UTF-8" in done.output
    assert "nothing was built" in done.output


def test_without_a_published_environment_nothing_is_built(site):
    done = call(site, "build", "manuals", "--from", str(EXAMPLE))
    assert done.exit_code == 1
    assert "no environment retrieval is published" in done.output


def test_the_newest_published_environment_builds(tmp_path):
    for place, name in enumerate(("retrieval-new", "retrieval-old")):
        (tmp_path / "environments" / name).mkdir(parents=True)
        manifest = tmp_path / "environments" / name / "manifest.json"
        manifest.write_text("{}")
        os.utime(manifest, (1000 - place, 1000 - place))
    assert build.interpreter(tmp_path, "retrieval").parts[-3:] == ("retrieval-new", "bin", "python")


@pytest.mark.parametrize(
    ("said", "wanted", "exact", "contains", "f1"),
    [
        ("50 GB", "50 gb.", 1, 1, 1),
        ("The answer is 50 GB, I think.", "50 GB", 0, 1, 2 * (2 / 6) / (2 / 6 + 1)),
        ("GB 50", "50 GB", 0, 0, 1),
        ("150 GB", "50 GB", 0, 0, 0.5),
        ("", "x", 0, 0, 0),
        ("an", "the", 1, 1, 1),
        ("x", "the", 0, 0, 0),
    ],
)
def test_scores_are_those_of_squad(said, wanted, exact, contains, f1):
    assert scores.scores(said, wanted) == pytest.approx({"exact": exact, "contains": contains, "f1": f1})


def test_an_interval_of_half_right_answers_is_that_of_a_coin():
    """Binomial: the 95 % interval of 100 coins is 0.402 to 0.598."""
    mean, low, high = scores.intervals({"x": [0.0, 1.0] * 50}, seed=3)["x"]
    assert mean == 0.5
    assert (low, high) == (pytest.approx(0.40, abs=0.02), pytest.approx(0.60, abs=0.02))
