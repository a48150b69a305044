"""What stays of a run, and `sitewright runs`, which reads it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from sitewright.cli.runs import find, runs, select, slowest_tasks
from sitewright.errors import SitewrightError
from sitewright.provider.artifacts import Artifacts, new_record, prune, read_runs, runs_directory
from sitewright.provider.redact import Redactor


def record(
    root: Path, name: str, status: str = "ok", environment: str | None = "lab", hold: bool = False
) -> Artifacts:
    made = new_record(name, "run", "playbooks/p.yml", environment, None, "d1")
    artifacts = Artifacts(root, made, Redactor(["hush!"]), hold_log=hold)
    if status != "running":
        artifacts.log("said hush!")
        artifacts.event(time=1.0, task="Say it", host="n1", status="ok", seconds=2.0)
        artifacts.finish(status, 12.3456, "" if status == "ok" else "it failed: hush!")
    return artifacts


def test_a_run_leaves_a_record_a_log_and_events_without_secrets(tmp_path: Path) -> None:
    artifacts = record(tmp_path, "boot strap", "failed")
    assert artifacts.path.name.endswith("Z-boot-strap")
    assert artifacts.relative == f".sitewright/runs/{artifacts.path.name}"
    content = json.loads((artifacts.path / "run.json").read_text())
    assert (content["status"], content["seconds"], content["digest"]) == ("failed", 12.346, "d1")
    assert (artifacts.path / "log.txt").read_text() == "said [secret]\n"
    assert not [path for path in artifacts.path.iterdir() if "hush" in path.read_text()]


def test_only_the_owner_reads_them(tmp_path: Path) -> None:
    path = record(tmp_path, "a").path
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o600}


def test_two_runs_of_one_name_in_one_second_have_two_directories(tmp_path: Path) -> None:
    first, second = record(tmp_path, "a"), record(tmp_path, "a")
    assert first.path != second.path
    assert [run.run for run in read_runs(runs_directory(tmp_path))] == [first.path.name, second.path.name]


def test_a_held_log_reaches_the_disk_only_when_its_secrets_are_known(tmp_path: Path) -> None:
    made = new_record("a", "run", "playbooks/p.yml", None, None, "")
    redact = Redactor()
    artifacts = Artifacts(tmp_path, made, redact, hold_log=True)
    artifacts.log("the result is fresh-secret")
    assert (artifacts.path / "log.txt").read_text() == ""
    redact.add(["fresh-secret"])
    artifacts.finish("ok", 1)
    assert (artifacts.path / "log.txt").read_text() == "the result is [secret]\n"


def test_the_oldest_finished_runs_are_pruned_and_running_ones_stay(tmp_path: Path) -> None:
    running = record(tmp_path, "0", "running")
    finished = [record(tmp_path, str(number)) for number in range(1, 6)]
    prune(runs_directory(tmp_path), 2)
    left = {run.run for run in read_runs(runs_directory(tmp_path))}
    assert left == {running.path.name, finished[-2].path.name, finished[-1].path.name}


def test_every_run_prunes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITEWRIGHT_KEEP_RUNS", "3")
    for number in range(6):
        record(tmp_path, str(number))
    assert (
        len(read_runs(runs_directory(tmp_path))) == 4
    )  # three finished ones when the last began, and the last


def test_a_run_whose_process_is_gone_is_interrupted(tmp_path: Path) -> None:
    artifacts = record(tmp_path, "a", "running")
    assert [run.status for run in read_runs(runs_directory(tmp_path))] == ["running"]
    path = artifacts.path / "run.json"
    path.write_text(path.read_text().replace(f'"{os.getpid()} ', '"4194303 '))
    assert [run.status for run in read_runs(runs_directory(tmp_path))] == ["interrupted"]


def test_a_damaged_record_does_not_hide_the_others(tmp_path: Path) -> None:
    record(tmp_path, "a")
    (record(tmp_path, "b").path / "run.json").write_text("{")
    assert [run.name for run in read_runs(runs_directory(tmp_path))] == ["a"]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SITEWRIGHT_REPO", str(tmp_path))
    record(tmp_path, "cluster")
    record(tmp_path, "nodes", "failed", "prod")
    return tmp_path


def test_list_shows_every_run_and_what_to_type_next(checkout: Path) -> None:
    shown = CliRunner().invoke(runs, ["list"])
    assert shown.exit_code == 0
    lines = shown.output.splitlines()
    assert "Z-cluster" in lines[1] and " ok " in lines[1] and "p.yml" in lines[1]
    assert "Z-nodes" in lines[2] and "failed" in lines[2]
    assert lines[3].startswith("Next: sitewright runs show ") and lines[3].endswith("Z-nodes")
    assert "Z-nodes" not in CliRunner().invoke(runs, ["list", "-e", "lab"]).output
    assert "Z-cluster" not in CliRunner().invoke(runs, ["list", "--failed"]).output


def test_list_says_when_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITEWRIGHT_REPO", str(tmp_path))
    assert "No runs recorded here" in CliRunner().invoke(runs, ["list"]).output


def test_show_is_about_the_newest_run_unless_told_otherwise(checkout: Path) -> None:
    newest = CliRunner().invoke(runs, ["show", "--log"])
    assert "it failed: [secret]" in newest.output and "said [secret]" in newest.output
    assert "Say it" in newest.output
    assert "Z-cluster" in CliRunner().invoke(runs, ["show", "-e", "lab"]).output


def test_a_run_that_is_not_there_is_refused_by_name(checkout: Path) -> None:
    records = read_runs(runs_directory(checkout))
    with pytest.raises(SitewrightError, match="no run '1999' is recorded on environment 'lab'"):
        find(records, "1999", "lab")
    assert find(records, records[0].run, None).name == "cluster"
    assert [run.name for run in select(records, None, failed=True)] == ["nodes"]


def test_the_slowest_tasks_come_first_with_their_slowest_host() -> None:
    events = [("a", "n1", 1.0), ("a", "n2", 3.0), ("b", "n1", 2.0), ("c", "n1", 0.5)]
    lines = [json.dumps({"task": task, "host": host, "seconds": seconds}) for task, host, seconds in events]
    assert slowest_tasks(lines, 2) == [("a", "n2", 3.0), ("b", "n1", 2.0)]
