"""Fine-tuning on the lab's nodes: what a power cut costs, and what it costs to be a pod."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from modules.tuning.fine_tuning import PROGRAMS
from tests.bench.figure import Figure
from tests.bench.under_load import keep
from tests.lab.conftest import EXAMPLE, SITEWRIGHT, eventually, run
from tests.lab.user import Shell

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

SAVE_STEPS = 20  # of the example's recipe
ROUNDS = 4
SKIPPED = 20  # steps until caches are warm


class Runs:
    """Runs of the example's recipe, as they lie on the shared file system."""

    def __init__(self, shell: Shell, root: Path) -> None:
        self.shell, self.root = shell, root
        self.made: list[str] = []

    def submit(self) -> str:
        said = self.shell.must(
            f"sitewright tune submit tiny {EXAMPLE}/train.jsonl {EXAMPLE}/recipe.yaml", "was submitted"
        )
        self.made.append(said.split(" was submitted")[0].splitlines()[-1])
        return self.made[-1]

    def finish(self, name: str) -> None:
        """Nobody follows it meanwhile: that would take a share of the cores that a plain process has to itself."""
        assert eventually(lambda: (self.root / name / "run.json").exists(), 600), f"{name} does not finish"
        self.shell.must(f"sitewright tune logs {name} --follow", "finished, step 200 of 200")

    def lines(self, name: str) -> list[dict]:
        path = self.root / name / "progress.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def seconds_per_step(self, name: str) -> float:
        """The median, so that a checkpoint in between does not count."""
        times = [line["time"] for line in self.lines(name)[SKIPPED:]]
        return median(later - earlier for earlier, later in pairwise(times))


@pytest.fixture
def runs(shell: Shell, site) -> Iterator[Runs]:
    """Afterwards gone: who publishes the newest run is to find one that was judged."""
    made = Runs(shell, Path(site.shared_filesystem.publish_dir) / "runs")
    yield made
    for name in made.made:
        shutil.rmtree(made.root / name, ignore_errors=True)


def pod_of(kubectl, name: str) -> dict:
    shown = kubectl("get", "pods", "-n", "fine-tuning", "-l", f"sitewright.dev/run={name}", "-o", "json")
    return json.loads(shown.stdout)["items"][-1]


def test_a_power_cut_costs_at_most_the_steps_since_the_last_checkpoint(runs: Runs, kubectl, runbook):
    name = runs.submit()
    assert eventually(lambda: len(runs.lines(name)) >= SAVE_STEPS + 5, 240)
    node = pod_of(kubectl, name)["spec"]["nodeName"]
    run(SITEWRIGHT, "nodes", "power", "lab", node, "off", "--yes")
    cut = time.monotonic()
    done = len(runs.lines(name))
    runbook("node-lost-power").follow(2)
    assert eventually(lambda: len(runs.lines(name)) > done, 600), "the run did not go on"
    back = time.monotonic() - cut
    runs.finish(name)
    steps = [line["step"] for line in runs.lines(name)]
    again = len(steps) - len(set(steps))
    details = {"save_steps": SAVE_STEPS, "seconds_until_it_trained_again": back}
    keep(Figure("tune.steps_repeated_after_power_cut", again, "steps", SAVE_STEPS, details=details))
    assert sorted(set(steps)) == list(range(1, 201))
    assert again <= SAVE_STEPS
    record = json.loads((runs.root / name / "run.json").read_text())
    assert len(record["starts"]) == 2


def test_a_pod_trains_like_a_process_on_the_same_node(runs: Runs, kubectl, host: Callable):
    """The same program, data and seed, in turns; the losses tell that it was the same work."""
    pods, bare = [], []
    node = ""
    for _ in range(ROUNDS):
        name = runs.submit()
        assert eventually(lambda wanted=name: bool(runs.lines(wanted)), 240)
        pod = pod_of(kubectl, name)
        runs.finish(name)
        node = node or pod["spec"]["nodeName"]
        pods.append(name)
        bare.append(_bare(runs, name, pod, host(pod["spec"]["nodeName"])))
    losses = [[line["loss"] for line in runs.lines(name)] for name in (*pods, *bare)]
    assert all(found == losses[0] for found in losses)
    in_pod, outside = (list(map(runs.seconds_per_step, names)) for names in (pods, bare))
    ratios = sorted(one / other for one, other in zip(in_pod, outside, strict=True))
    details = {
        "node": node,
        "ratios": [round(ratio, 3) for ratio in ratios],
        "pod_steps_per_s": round(1 / median(in_pod), 2),
        "process_steps_per_s": round(1 / median(outside), 2),
    }
    keep(Figure("tune.seconds_per_step_pod_vs_process", median(ratios), "ratio", 1.02, details=details))


def _bare(runs: Runs, name: str, pod: dict, node) -> str:
    """The work of a run's pod once more, by a plain process of the node. Returns the name of its directory."""
    copy = runs.root / f"{name}-bare"
    copy.mkdir()
    runs.made.append(copy.name)
    request = json.loads((runs.root / name / "request.json").read_text())
    for data in {request["train"], request.get("evaluation")} - {None}:
        shutil.copyfile(runs.root / name / data, copy / data)
    (copy / "request.json").write_text(json.dumps(request | {"run": copy.name}))
    (copy / "program/modules/tuning").mkdir(parents=True)
    for file, text in PROGRAMS.items():
        (copy / "program/modules/tuning" / file).write_text(text)
    container = pod["spec"]["containers"][0]
    python, _, module, there = container["command"]
    directory = there.replace(name, copy.name)
    given = {one["name"]: one["value"] for one in container["env"]} | {"PYTHONPATH": f"{directory}/program"}
    variables = " ".join(f"{name}={value}" for name, value in given.items())
    node.run_test(f"env {variables} {python} -m {module} {directory}")
    return copy.name
