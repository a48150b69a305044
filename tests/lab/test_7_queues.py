"""Queues in the lab: real runs take turns, one makes way and goes on from its checkpoint; Kueue that is gone."""

import json
from pathlib import Path

import pytest

from tests.bench.figure import Figure
from tests.bench.under_load import keep
from tests.lab.conftest import EXAMPLE, eventually, steps
from tests.lab.user import Shell

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

RECIPE = f"{EXAMPLE}/recipe.yaml"
LONG = 1000  # steps of a run that still trains when the urgent one is there; those of the example take 20 s
KUEUE = "deployment kueue-controller-manager -n kueue-system"


def command(name: str, recipe: str = RECIPE) -> str:
    data = f"{EXAMPLE}/train.jsonl {recipe} --evaluation {EXAMPLE}/held-out.jsonl"
    return f"sitewright tune submit tiny {data} --queue demo --name {name}"


def submit(shell: Shell, name: str, more: str = "", recipe: str = RECIPE) -> str:
    said = shell.must(f"{command(name, recipe)} {more}", "was submitted")
    return said.split(" was submitted")[0].splitlines()[-1]


def state(shell: Shell, run: str) -> str:
    lines = shell.must(f"sitewright tune logs {run}").splitlines()
    return next(line for line in lines if line.startswith(f"{run}: ")).split()[1].rstrip(":,")


def comes_to(shell: Shell, run: str, wanted: str, seconds: float) -> None:
    reached = eventually(lambda: state(shell, run) == wanted, seconds)
    assert reached, f"{run} is not {wanted}:\n{shell.must('sitewright tune list')}"


def record(site, run: str) -> dict:
    return json.loads((Path(site.shared_filesystem.publish_dir) / "runs" / run / "run.json").read_text())


def logged_steps(site, run: str) -> list[int]:
    file = Path(site.shared_filesystem.publish_dir) / "runs" / run / "progress.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()]


@pytest.fixture
def long_recipe(tmp_path: Path) -> str:
    file = tmp_path / "recipe.yaml"
    text = (Path(__file__).parents[2] / RECIPE).read_text()
    assert "steps: 200" in text
    file.write_text(text.replace("steps: 200", f"steps: {LONG}"))
    return str(file)


def test_a_run_makes_way_and_goes_on_from_its_checkpoint(shell: Shell, site, long_recipe: str):
    first = submit(shell, "first", recipe=long_recipe)
    assert eventually(lambda: steps(shell, first) >= 25, 300), shell.must("sitewright tune list")
    second = submit(shell, "second")
    comes_to(shell, second, "queued", 60)
    shell.must("sitewright tune list", f"{second} queued: … insufficient unused quota for memory")
    urgent = submit(shell, "urgent", "--priority urgent")
    comes_to(shell, first, "preempted", 60)
    shell.must("sitewright tune list", f"{first} preempted: Preempted to accommodate {urgent}")
    shell.must(f"sitewright tune cancel {second}")
    shell.must(f"sitewright tune logs {urgent} --follow", "finished, step 200 of 200")
    shell.must(f"sitewright tune logs {first} --follow", f"finished, step {LONG} of {LONG}")

    starts = record(site, first)["starts"]
    assert len(starts) == 2
    assert starts[1]["resumed_from_step"] >= 20
    logged = logged_steps(site, first)
    assert sorted(set(logged)) == list(range(1, LONG + 1))
    repeated = len(logged) - len(set(logged))
    keep(Figure("tune.steps_repeated_after_preemption", repeated, "steps", 0))
    assert not repeated, "a step was trained twice: the checkpoint was not written in time"
    assert len(record(site, urgent)["starts"]) == 1


def test_kueue_that_is_gone(shell: Shell, runbook):
    book = runbook("run-does-not-start")
    shell.must(f"kubectl scale {KUEUE} --replicas=0")
    shell.must(
        "kubectl wait pod -n kueue-system -l control-plane=controller-manager --for=delete --timeout=60s"
    )
    refused = command("late")
    assert eventually(lambda: "failed calling webhook" in shell.run(refused).stdout, 60)
    book.quotes("failed calling webhook", shell.run(refused).stdout)
    book.quotes("0/0", book.look(5))
    book.follow(6, 5)
    run = submit(shell, "late")
    comes_to(shell, run, "running", 240)
    book.worked()
    shell.must(f"sitewright tune cancel {run}")
    shell.must("pulumi preview -s lab --expect-no-changes")
