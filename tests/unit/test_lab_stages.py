"""The list of stages, and Pulumi's events in it."""

import io
import json
from pathlib import Path

import pytest

from lab.pulumi_events import EventStages, Follower, plain
from lab.stages import Stages, as_json

RECORDED = Path(__file__).parents[1] / "data/lab/pulumi-events.jsonl"


def lines(out: io.StringIO) -> list[str]:
    """Without the seconds."""
    return [line.replace(line.split(", ")[1].split(" s")[0], "0.0") for line in out.getvalue().splitlines()]


def test_without_a_terminal_each_stage_is_one_line():
    out = io.StringIO()
    with Stages(["one", "two"], out) as stages:
        with stages.stage("one") as stage:
            stage.say("waiting for something")
            stage.say("3 made")
        with stages.stage("two"):
            pass
    assert lines(out) == ["one: done, 0.0 s: 3 made", "two: done, 0.0 s"]


def test_a_stage_that_raises_has_failed():
    out = io.StringIO()
    stages = Stages(["one"], out)
    with pytest.raises(KeyError), stages, stages.stage("one"):
        raise KeyError
    assert lines(out) == ["one: failed, 0.0 s"]
    assert [stage.state for stage in stages] == ["failed"]


def test_planned_stages_wait_in_their_order_and_others_join_behind():
    stages = Stages(["one", "two"], io.StringIO())
    with stages.stage("two"), stages.stage("three"):
        pass
    assert [(stage.name, stage.state) for stage in stages] == [
        ("one", "waiting"),
        ("two", "done"),
        ("three", "done"),
    ]
    assert list(json.loads(as_json(stages))) == ["two", "three"]


def test_the_live_list_shows_name_state_elapsed_and_what_is_waited_for():
    from rich.console import Console

    stages = Stages(["one", "two"], io.StringIO())
    stages.begin("one").say("waiting for the bridge")
    console = Console(file=io.StringIO(), width=80)
    console.print(stages._table())
    first, second = console.file.getvalue().splitlines()
    assert first.split() == ["▸", "one", "0.0", "s", "waiting", "for", "the", "bridge"]
    assert second.split() == ["·", "two"]


@pytest.fixture
def events():
    return [json.loads(line) for line in RECORDED.read_text().splitlines()]


def test_a_run_is_one_line_per_component(events):
    out = io.StringIO()
    stages = Stages((), out)
    shown = EventStages(stages, clock=lambda: 0.0)
    for event in events:
        shown.take(event)
    shown.close()
    states = {stage.name.strip(): (stage.state, stage.note) for stage in stages}
    assert states == {
        "PlaybookRun cluster-images": ("failed", "failed at cluster-images"),
        "Namespace lab": ("done", "1 resource"),
        "VmImage debian-12": ("done", "1 resource"),
        "VmNetwork nodes": ("done", "1 resource"),
        "VirtualMachine svc-cp": ("done", "2 resources"),
    }
    assert len(out.getvalue().splitlines()) == len(states), "each is told once"


def test_the_errors_of_a_run_are_kept_without_the_engines_frame(events):
    shown = EventStages(Stages((), io.StringIO()))
    for event in events:
        shown.take(event)
    [error] = shown.errors
    assert error.startswith("cluster-images: playbooks/fill-registry.yml: Ansible stopped:")


def test_what_a_playbook_does_is_shown_beside_it(events):
    stages = Stages((), io.StringIO())
    shown = EventStages(stages)
    said = set()
    for event in events:
        shown.take(event)
        said |= {stage.note for stage in stages}
    assert "cluster-images: starting Ansible, 1 s" in said


def test_a_component_is_done_only_after_it_was_idle_for_a_while(events):
    now = [0.0]
    stages = Stages((), io.StringIO())
    shown = EventStages(stages, clock=lambda: now[0])
    for event in events[:11]:
        shown.take(event)
    shown.tick()
    namespace = next(stage for stage in stages if stage.name.strip() == "Namespace lab")
    assert namespace.state == "running"
    now[0] = 2.5
    shown.tick()
    assert namespace.state == "done"


def test_unchanged_resources_are_not_shown(events):
    stages = Stages((), io.StringIO())
    shown = EventStages(stages)
    for event in events:
        if "metadata" in (inner := next(iter(event.values()))):
            inner["metadata"]["op"] = "same"
        shown.take(event)
    shown.close()
    assert list(stages) == []


def test_a_log_is_read_to_its_end_while_it_grows(tmp_path, events):
    file = tmp_path / "events.jsonl"
    file.touch()
    stages = Stages((), io.StringIO())
    shown = EventStages(stages)
    follower = Follower(file, shown)
    follower.start()
    with file.open("a") as log:
        for event in events:
            text = json.dumps(event) + "\n"
            log.write(text[:9])
            log.flush()
            log.write(text[9:])
    follower.finish()
    assert shown.changes == {"create": 11}


def test_markup_of_the_engine_is_removed():
    assert plain("<{%fg 1%}>error: <{%reset%}>\x1b[31mx\x1b[0m") == "error: x"
