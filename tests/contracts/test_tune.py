"""`sitewright tune` and `sitewright adapters` against the real Kubernetes API: what a researcher types and sees.

No node is there: what the pod of a run would write, and what the cluster would say of its Job, the test says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml
from click.testing import CliRunner, Result

from modules.tuning.fine_tuning import FineTuningSpec, render
from sitewright.cli import main
from tests.contracts.fake_hypervisor import api_server
from tests.tokenizer import tokenizer_of_words
from tests.unit.adapter import safetensors, write_adapter, write_base
from tests.unit.golden import DATA

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]

WEIGHTS = "sha256:weights"
ROW = {"messages": [{"role": "user", "content": "How high?"}, {"role": "assistant", "content": "4806 m"}]}
HELD_OUT = {"messages": [{"role": "user", "content": "How deep?"}, {"role": "assistant", "content": "372 m"}]}
RECIPE = "method: lora\nsteps: 4\nlearning_rate: 0.001\nbatch_size: 1\nmax_length: 64\nprecision: fp32\n"


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with api_server(tmp_path_factory.mktemp("api")) as path:
        yield path


class Researcher:
    """Types commands. kubernetes: the API, to play the cluster's part."""

    def __init__(self, folder: Path) -> None:
        self.shared = folder / "shared"
        (self.shared / "runs").mkdir(parents=True)
        tokenizer_of_words(self.shared / "models/tiny")
        write_base(self.shared / "models/tiny")
        self.folder = folder
        self.train, self.held_out, self.recipe = (folder / n for n in ("t.jsonl", "e.jsonl", "r.yaml"))
        self.train.write_text(json.dumps(ROW) + "\n")
        self.held_out.write_text(json.dumps(HELD_OUT) + "\n")
        self.recipe.write_text(RECIPE)
        kubernetes.config.load_kube_config()
        self.core, self.batch = kubernetes.client.CoreV1Api(), kubernetes.client.BatchV1Api()

    def types(self, *words: object, status: int = 0) -> Result:
        done = CliRunner().invoke(main, [str(word) for word in words])
        assert done.exit_code == status, f"{words}: {done.output}\n{done.exception!r}"
        return done

    def submits(self, *more: object, status: int = 0) -> str:
        done = self.types(
            *("tune", "submit", "tiny", self.train, self.recipe, "--evaluation", self.held_out),
            *more,
            status=status,
        )
        return done.output.split(" was submitted")[0].splitlines()[-1] if status == 0 else done.output

    def runs(self) -> list[str]:
        return sorted(path.name for path in (self.shared / "runs").iterdir())

    def jobs(self) -> list[str]:
        return [job.metadata.name for job in self.batch.list_namespaced_job("fine-tuning").items]

    def pod_trains(self, run: str, *losses: float) -> None:
        with (self.shared / "runs" / run / "progress.jsonl").open("a") as file:
            for step, loss in enumerate(losses, 1):
                line = {"step": step, "steps": 4, "loss": loss, "learning_rate": 1e-3, "time": 1e9 + step}
                file.write(json.dumps(line) + "\n")

    def pod_finishes(self, run: str, before: float, after: float) -> None:
        directory = self.shared / "runs" / run
        write_adapter(directory / "adapter")
        files = {path.name: path.read_bytes() for path in (directory / "adapter").iterdir()}
        record = {
            "request": json.loads((directory / "request.json").read_text()),
            "adapter_files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            "evaluation": {"base_loss": before, "tuned_loss": after},
        }
        (directory / "run.json").write_text(json.dumps(record))


@pytest.fixture
def researcher(kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Researcher]:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
    someone = Researcher(tmp_path)
    given: dict[str, Any] = {
        "pool": "gpu",
        "gpus": 0,
        "cpus": 1,
        "memory": 2**30,
        "publish_dir": str(someone.shared),
        "models": {
            "tiny": {
                "path": "/shared/models/tiny",
                "digest": WEIGHTS,
                "python": "/s/e-1/bin/python",
                "image": "i@sha256:1",
            }
        },
    }
    namespace, _, config_map = render(FineTuningSpec.model_validate(given))
    try:
        someone.core.create_namespace(namespace)
    except kubernetes.client.ApiException as error:
        assert error.status == 409
    someone.core.create_namespaced_config_map("fine-tuning", config_map)
    yield someone
    someone.core.delete_namespaced_config_map("fine-tuning", "fine-tuning")
    for job in someone.jobs():
        someone.batch.delete_namespaced_job(job, "fine-tuning", propagation_policy="Background")


def test_a_submitted_run_is_a_job_and_a_directory_with_all_that_it_needs(researcher: Researcher) -> None:
    run = researcher.submits()
    assert researcher.jobs() == [run] == researcher.runs()
    directory = researcher.shared / "runs" / run
    assert json.loads((directory / "train.jsonl").read_text()) == ROW
    request = json.loads((directory / "request.json").read_text())
    assert (request["model"], request["base_digest"]) == ("tiny", WEIGHTS)
    assert request["recipe"]["steps"] == 4
    assert request["data_digest"]
    assert request["environment_digest"] == "e-1"
    assert "waiting" in researcher.types("tune", "list").output


def test_a_dry_run_changes_nothing(researcher: Researcher) -> None:
    assert (
        "nothing was changed"
        in researcher.types("tune", "submit", "tiny", researcher.train, researcher.recipe, "--dry-run").output
    )
    assert researcher.jobs() == [] == researcher.runs()


def test_bad_data_is_refused_before_anything_is_asked_for(researcher: Researcher) -> None:
    researcher.train.write_text(json.dumps(ROW) + '\n{"messages": [\n')
    said = researcher.submits(status=2)
    assert "2" in said
    assert "nothing was submitted" in said
    assert researcher.jobs() == [] == researcher.runs()


def test_held_out_rows_that_are_in_the_data_are_refused(researcher: Researcher) -> None:
    researcher.held_out.write_text(json.dumps(ROW) + "\n")
    assert "nothing was submitted" in researcher.submits(status=2)
    assert researcher.jobs() == [] == researcher.runs()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["submit", "tyni", "TRAIN", "RECIPE"], "no model 'tyni'"),
        (["submit", "tiny", "TRAIN", "RECIPE", "--name", "Mine"], "lower-case"),
        (["list", "-n", "nowhere"], "no runs are taken here"),
        (["logs", "tiny-20260101-000000"], "no run"),
    ],
)
def test_what_is_not_there_is_named(researcher: Researcher, words: list[str], says: str) -> None:
    given = {"TRAIN": researcher.train, "RECIPE": researcher.recipe}
    said = researcher.types("tune", *(given.get(word, word) for word in words), status=1).output
    assert says in said
    assert researcher.jobs() == [] == researcher.runs()


def test_what_the_cluster_refuses_leaves_no_run(
    researcher: Researcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sitewright.tuning.runs.run_id", lambda name: f"{name}-1")
    taken = yaml.safe_load((DATA / "fine_tuning/job-0-gpus.yaml").read_text())
    taken["metadata"]["name"] = "tiny-1"
    researcher.batch.create_namespaced_job("fine-tuning", taken)
    assert "the cluster refused: jobs.batch" in researcher.submits(status=1)
    assert researcher.runs() == []


def test_progress_is_step_loss_and_what_is_left(researcher: Researcher) -> None:
    run = researcher.submits()
    researcher.pod_trains(run, 2.5, 1.25)
    said = researcher.types("tune", "logs", run, "--curve", researcher.folder / "loss.svg").output
    assert "step 2 of 4, loss 1.2500" in said
    assert "<svg" in (researcher.folder / "loss.svg").read_text()


def test_a_cancelled_run_is_continued_in_its_own_directory(researcher: Researcher) -> None:
    run = researcher.submits()
    said = researcher.types("tune", "cancel", run).output
    assert f"sitewright tune resume {run}" in said
    assert "stopping" in researcher.types("tune", "list").output
    # The pod has ended; no garbage collector is here to say so.
    researcher.batch.patch_namespaced_job(run, "fine-tuning", {"metadata": {"finalizers": None}})
    assert "cancelled" in researcher.types("tune", "list").output
    researcher.types("tune", "cancel", run, status=1)
    researcher.types("tune", "resume", run)
    assert researcher.jobs() == [run] == researcher.runs()
    assert "nothing to continue" in researcher.types("tune", "resume", run, status=1).output


def test_only_what_is_better_is_published(researcher: Researcher) -> None:
    run = researcher.submits()
    assert "not finished" in researcher.types("adapters", "publish", run, "alps", status=1).output
    researcher.pod_finishes(run, before=2.0, after=2.1)
    assert "2.1000" in researcher.types("adapters", "publish", run, "alps", status=1).output
    assert "finished" in researcher.types("tune", "list").output
    assert not (researcher.shared / "adapters").exists()


def test_a_published_adapter_leads_back_to_its_data(researcher: Researcher) -> None:
    run = researcher.submits()
    researcher.pod_finishes(run, before=2.0, after=1.0)
    said = researcher.types("adapters", "publish", run, "alps", status=1).output
    assert "alps--v1 is published" in said
    assert "no replica of tiny is ready" in said
    again = researcher.types("adapters", "publish", run, "alps", status=1).output
    assert "alps--v2 is published" in again
    assert "alps--v1" in researcher.types("adapters", "list").output
    record = json.loads(researcher.types("adapters", "show", "alps--v1").output)
    assert record["request"]["data_digest"]
    directory = researcher.shared / "adapters/tiny/alps--v1"
    made = researcher.shared / "runs" / run / "adapter/adapter_model.safetensors"
    assert (directory / made.name).read_bytes() == made.read_bytes()


def test_a_file_that_is_not_as_the_run_left_it_is_not_published(researcher: Researcher) -> None:
    run = researcher.submits()
    researcher.pod_finishes(run, before=2.0, after=1.0)
    (researcher.shared / "runs" / run / "adapter/adapter_model.safetensors").write_bytes(b"weight")
    said = researcher.types("adapters", "publish", run, "alps", status=1).output
    assert "adapter_model.safetensors" in said
    assert "alps--v1" not in researcher.types("adapters", "list").output


def test_an_adapter_that_vllm_would_not_use_is_not_published(researcher: Researcher) -> None:
    run = researcher.submits()
    safetensors(researcher.shared / "models/tiny/model.safetensors", {"lm_head.weight": (256, 64)})
    researcher.pod_finishes(run, before=2.0, after=1.0)
    said = researcher.types("adapters", "publish", run, "alps", status=1).output
    assert "the base has no layers.0.self_attn.q_proj; it has lm_head" in said
    assert not (researcher.shared / "adapters").exists()


@pytest.mark.parametrize("name", ["../etc", "Alps", "a--b", ""])
def test_a_name_that_leads_elsewhere_is_refused(researcher: Researcher, name: str) -> None:
    run = researcher.submits()
    researcher.pod_finishes(run, before=2.0, after=1.0)
    assert "name" in researcher.types("adapters", "publish", run, name, status=1).output


def test_the_recorded_job_is_one_the_api_takes(researcher: Researcher) -> None:
    for path in sorted((DATA / "fine_tuning").glob("job-*.yaml")):
        researcher.batch.create_namespaced_job("fine-tuning", yaml.safe_load(path.read_text()), dry_run="All")
