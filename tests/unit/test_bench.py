"""What `make bench` reads: printed stages, recorded runs, control groups. It measures nothing here."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from lab import cgroup
from lab.cgroup import Tree
from lab.stages import Stages
from sitewright.errors import SitewrightError
from tests.bench import lab_runs, memory, power_on, report, serving, under_load
from tests.bench.__main__ import MEASURES, chosen, measured
from tests.bench.figure import Figure
from tests.bench.hostlists import MACHINE, ours_round_trip, peer_round_trip
from tests.bench.idle import parts
from tests.bench.output import ended, stage_of
from tests.bench.preview import project, to_create

# As printed by a run of `make lab` on two cores.
PRINTED = """\
setup: Python environment from uv.lock
services: done, 3.7 s: 11 run
pulumi up: running, 15.2 s
  BootImage compute: done, 5.0 s: 1 resource
  KubernetesCluster svc: running, 45.1 s: bootstrap-svc: kubernetes_node : Install the kubelet 13/26, 15 s
  KubernetesCluster svc: done, 44.3 s: 1 resource
  VllmService tiny: failed, 53.0 s: failed at tiny-deployment
pulumi up: done, 137.0 s: 42 create
ask the model: done, 2.7 s

Answer:   Mont Blanc is the highest mountain of the Alps, at 4806 metres.
"""


def test_the_stages_that_ended_are_read_from_what_is_printed():
    stages = ended(filter(None, map(stage_of, PRINTED.splitlines())))
    assert [(s.name, s.state, s.seconds, s.note, s.component) for s in stages] == [
        ("services", "done", 3.7, "11 run", False),
        ("BootImage compute", "done", 5.0, "1 resource", True),
        ("KubernetesCluster svc", "done", 44.3, "1 resource", True),
        ("VllmService tiny", "failed", 53.0, "failed at tiny-deployment", True),
        ("pulumi up", "done", 137.0, "42 create", False),
        ("ask the model", "done", 2.7, "", False),
    ]


def test_a_component_that_went_on_counts_once_with_all_its_time():
    lines = ["  NodePool gpu: done, 4.0 s: 1 resource", "  NodePool gpu: done, 21.4 s: 3 resources"]
    [stage] = ended(filter(None, map(stage_of, lines)))
    assert (stage.seconds, stage.note) == (21.4, "3 resources")


def test_the_lab_still_prints_stages_as_they_are_read(capsys):
    with Stages().stage("VM image") as stage:
        stage.say("building: a minute")
    read = stage_of(capsys.readouterr().out)
    assert read
    assert (read.name, read.state, read.note) == ("VM image", "done", "building: a minute")


def test_a_stage_has_the_peak_of_its_own_time():
    sampler = memory.Sampler(lambda: 0)
    sampler.samples = [(1.0, 10), (2.0, 50), (3.0, 20), (4.0, 90)]
    assert sampler.peak() == 90
    assert sampler.peak(1.5, 3.5) == 50
    assert sampler.peak(2.9, 2.95) == 20  # shorter than the distance of two samples


def test_figures_of_a_run_begin_with_the_whole():
    command, lab = memory.Sampler(lambda: 0), memory.Sampler(lambda: 0)
    command.samples, lab.samples = [(0.0, 2**30)], [(0.0, 0), (5.0, 3 * 2**30), (9.0, 2**30)]
    stages = [stage_of("services: done, 3.0 s", 6.0), stage_of("ask the model: done, 1.0 s", 9.0)]
    run = lab_runs.Run([s for s in stages if s], 9.5, "", lab, command)
    whole, services, ask = lab_runs.figures("lab_up.warm", run, 240.0, {"ask the model": 0.5})
    assert (whole.name, whole.value, whole.target) == ("lab_up.warm", 9.5, 240.0)
    assert (services.name, services.target) == ("lab_up.warm.services", None)
    assert services.details["peak_gib"] == {lab_runs.LAB_MEMORY: 3.0, lab_runs.COMMAND_MEMORY: 1.0}
    assert ask.details["peak_gib"][lab_runs.LAB_MEMORY] == 1.0
    assert json.loads(ask.line())["met"] is False


def test_a_command_that_fails_is_no_figure():
    with pytest.raises(SitewrightError, match="failed:\ncannot"):
        lab_runs.measure([sys.executable, "-c", "print('cannot'); raise SystemExit(3)"])


def test_a_measured_command_gives_stages_and_memory(capsys):
    text = "services: done, 0.1 s: 11 run"
    run = lab_runs.measure([sys.executable, "-c", f"print({text!r}); import time; time.sleep(0.2)"])
    assert [stage.name for stage in run.stages] == ["services"]
    assert run.command.peak() > 2**20
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("summary", "changes"),
    [
        ("Resources:\n    42 unchanged\n", []),
        ("Resources:\n    ~ 21 to update\n    21 unchanged\n", ["~ 21 to update"]),
        ("Resources:\n    + 1 created\n    +-1 replaced\n", ["+ 1 created", "+-1 replaced"]),
    ],
)
def test_a_no_op_is_one_only_without_changes(summary, changes):
    assert lab_runs.changed(summary) == changes


def test_the_peak_of_a_command_includes_what_it_started():
    grow = "x = bytearray(64 * 2**20); print('grown', flush=True); import time; time.sleep(30)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grow!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        grown = memory.tree_memory(process.pid)
        [child] = _children(process.pid)
        os.kill(child, 9)
        process.wait()
    assert 64 * 2**20 < grown < 160 * 2**20


def _children(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task/{parent}/children")
    if tasks.exists():
        return [int(pid) for pid in tasks.read_text().split()]
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=True)
    return [int(pid) for pid in found.stdout.split()]


@pytest.fixture(params=["version 1", "version 2"])
def group(request, tmp_path, monkeypatch):
    """A control group that uses 7 GiB, 2 of them pages of files, and has worked for 90 s."""
    gib, unified = 2**30, request.param == "version 2"
    controllers = () if unified else ("memory", "cpuacct")
    monkeypatch.setattr(cgroup, "trees", lambda: [Tree(tmp_path, controllers, unified)])
    directory = tmp_path / "some-lab"
    directory.mkdir()
    prefix = "" if unified else "total_"
    own = "" if unified else "active_file 0\ninactive_file 0\n"  # version 1: of the group without those below
    stat = f"{own}{prefix}active_file {gib}\n{prefix}inactive_file {gib}\n"
    (directory / "memory.stat").write_text(stat)
    (directory / ("memory.current" if unified else "memory.usage_in_bytes")).write_text(f"{7 * gib}\n")
    (directory / "cpuacct.usage").write_text("90000000000\n")
    (directory / "cpu.stat").write_text("usage_usec 90000000\nuser_usec 1\n")
    (directory / "machines/svc-cp").mkdir(parents=True)
    return "some-lab"


def test_memory_of_a_group_is_what_the_kernel_cannot_drop(group):
    assert memory.group_memory(group) == 5 * 2**30
    assert memory.group_cpu_seconds(group) == 90.0
    assert memory.group_memory("no-such-lab") == 0


def test_the_idle_lab_is_shown_in_parts(group):
    assert parts(group) == [group, f"{group}/services", f"{group}/machines/svc-cp"]


@pytest.fixture
def runs(tmp_path):
    """Writes runs as the provider records them. events: task, host, seconds since the beginning, took."""

    def write(name, started, events, status="ok", action="run", changed=True, hosts=()):
        run = f"202611250647{started:02}Z-{name}"
        directory = tmp_path / run
        directory.mkdir()
        record = {
            "run": run,
            "name": name,
            "action": action,
            "playbook": f"playbooks/{name}.yml",
            "environment": "lab",
            "digest": "0",
            "started": f"2026-11-25T06:47:{started:02}+00:00",
            "status": status,
            "changed": changed,
            "hosts": {host: {"ok": 3, "changed": number} for host, number in hosts},
        }
        (directory / "run.json").write_text(json.dumps(record))
        lines = [
            json.dumps({"task": task, "host": host, "time": 1000.0 + at, "status": "ok", "seconds": took})
            for task, host, at, took in events
        ]
        (directory / "events.jsonl").write_text("\n".join(lines))
        return tmp_path

    return write


POWER = [("Speak to the BMCs", "localhost", 2.5, 1.5)]
READY = "node_join : Wait until the node is Ready and has its labels and taints"
JOINED = [
    ("Wait until the machine answers", "n0", 8.0, 0.5),
    (READY, "n0", 12.0, 0.5),
    (READY, "n1", 13.5, 0.5),
]


def test_power_on_to_ready_counts_from_the_request_to_what_was_seen_ready(runs):
    runs("power-gpu", 1, POWER)
    directory = runs("join-gpu", 8, JOINED, hosts=[("n0", 3), ("n1", 3)])
    [boot] = power_on.newest_boots(directory)
    assert (boot.pool, boot.ready) == ("gpu", {"n0": 11.0, "n1": 12.5})


def test_a_node_that_was_up_all_the_time_did_not_boot(runs):
    runs("power-gpu", 1, POWER)
    directory = runs("join-gpu", 8, JOINED, hosts=[("n0", 3), ("n1", 0)])
    assert power_on.newest_boots(directory)[0].ready == {"n0": 11.0}


@pytest.mark.parametrize(
    "between",
    [
        {"status": "cancelled"},
        {"status": "failed"},
    ],
    ids=lambda case: case["status"],
)
def test_a_join_that_had_to_be_repeated_says_nothing_about_a_boot(runs, between):
    runs("power-gpu", 1, POWER)
    runs("join-gpu", 8, [], **between)
    directory = runs("join-gpu", 20, JOINED, hosts=[("n0", 3)])
    assert power_on.newest_boots(directory) == []


def test_a_power_on_that_found_the_nodes_on_is_no_boot(runs):
    runs("power-gpu", 1, POWER, changed=False)
    directory = runs("join-gpu", 8, JOINED, hosts=[("n0", 3)])
    assert power_on.newest_boots(directory) == []


def test_the_newest_boot_of_each_pool_counts_and_verifications_do_not(runs):
    runs("power-gpu", 1, POWER)
    runs("join-gpu", 8, JOINED, hosts=[("n0", 3)])
    runs("power-cpu", 10, POWER)
    runs("join-cpu", 18, JOINED, hosts=[("n1", 3)])
    runs("power-gpu", 20, POWER)
    runs("power-gpu", 21, POWER, action="verify")
    directory = runs("join-gpu", 28, JOINED, hosts=[("n0", 3)])
    boots = {boot.pool: boot for boot in power_on.newest_boots(directory)}
    assert set(boots) == {"gpu", "cpu"}
    assert boots["gpu"].join_run.startswith("20261125064728Z")


def test_no_recorded_boot_names_the_command_that_makes_one(tmp_path, monkeypatch):
    monkeypatch.setattr(power_on, "REPOSITORY", tmp_path)
    with pytest.raises(SitewrightError, match="--only warm,nodes"):
        list(power_on.nodes())


def test_a_preview_project_has_what_the_site_file_names(tmp_path):
    site = project(tmp_path)
    assert len(site.nodes) == 2728
    assert site.hypervisor and site.ssh
    assert "127.0.0.1:1" in Path(site.hypervisor.kubeconfig).read_text()
    assert Path(site.hypervisor.kubeconfig).is_relative_to(tmp_path)
    assert Path(f"{site.ssh.private_key}.pub").is_file()
    for model in site.services.models:
        assert (tmp_path / "images/models" / model.model / "recipe.yaml").is_file()


def test_a_preview_without_a_summary_is_no_figure():
    assert to_create("Resources:\n    + 69 to create\n") == 69
    with pytest.raises(SitewrightError, match="no summary"):
        to_create("Resources:\n    3 unchanged\n")


def test_both_libraries_do_the_same_work():
    names = "x1000c[0-7]s[0-7]b[0-1]n0"
    assert ours_round_trip(names) == names == peer_round_trip(names)
    assert MACHINE.endswith(names.removeprefix("x1000"))


@pytest.mark.parametrize(
    ("only", "cold", "wanted"),
    [
        (None, False, [name for name in MEASURES if name != "cold"]),
        (None, True, list(MEASURES)),
        ("idle,hostlist", False, ["hostlist", "idle"]),
        ("cold", True, ["cold"]),
    ],
)
def test_cold_is_measured_only_when_asked_for_by_its_flag(only, cold, wanted):
    assert chosen(only, cold) == wanted


@pytest.mark.parametrize(
    ("only", "message"), [("warm,wram", "no such measure: wram"), ("cold", "add --cold")]
)
def test_a_selection_that_cannot_be_made_is_refused(only, message):
    with pytest.raises(click.UsageError, match=message):
        chosen(only, cold=False)


def test_a_figure_is_one_json_line_and_a_failure_prints_none(capsys):
    def broken():
        yield Figure("first", 0.12345, "s", 0.2, peer={"name": "peer", "value": 1.0})
        raise SitewrightError("the lab is down")

    assert not measured("warm", broken, [])
    captured = capsys.readouterr()
    [line] = captured.out.splitlines()
    found = json.loads(line)
    assert isinstance(found.pop("load"), float)
    assert found == {
        "name": "first",
        "value": 0.1235,
        "unit": "s",
        "target": 0.2,
        "met": True,
        "peer": {"name": "peer", "value": 1.0},
    }
    assert "warm: the lab is down" in captured.err


def test_a_sampler_reads_while_it_is_entered():
    values = iter(range(1, 10_000))
    with memory.Sampler(lambda: next(values), every=0.01) as sampler:
        time.sleep(0.1)
    taken = len(sampler.samples)
    assert taken >= 3
    time.sleep(0.05)
    assert len(sampler.samples) == taken


def test_the_page_shows_every_figure_beside_target_and_peer_and_needs_no_other_file(tmp_path):
    figures = [
        Figure("a", 2.0, "s", 4.0, details={"note": "<b>"}),
        Figure("b", 3.0, "s", 1.0, peer={"name": "other", "p50": 6.0}),
        Figure("c", 0.0, "failed"),
    ]
    report.write(tmp_path / "page.html", figures)
    page = (tmp_path / "page.html").read_text()
    assert all(f"<h2>{figure.name}: " in page for figure in figures)
    assert "&lt;b&gt;" in page
    assert "http" not in page
    assert [bar.kind for figure in figures for bar in report.plot(figure).bars] == [
        *("met", "target"),
        *("missed", "target", "peer"),
        "plain",
    ]
    assert [bar.width for bar in report.plot(figures[1]).bars] == [
        report.WIDTH / 2,
        report.WIDTH / 6,
        report.WIDTH,
    ]


def test_figures_of_tests_are_passed_on_as_they_were_kept(tmp_path, monkeypatch):
    kept = Figure("drain.failed", 0.0, "requests", 0.0, details={"streams": 40})
    monkeypatch.setenv(under_load.FILE, str(tmp_path / "figures"))
    under_load.keep(kept)
    [line] = (tmp_path / "figures").read_text().splitlines()
    assert under_load._figure(line) == kept


def test_the_confidence_intervals_of_differences_hold_them():
    ours = [0.5 + place / 1000 for place in range(500)]
    theirs = [value - 0.1 for value in ours]
    figure = serving.added("gateway.x.first_word", ours, theirs, 0.2)
    assert figure.value == pytest.approx(0.1)
    for which in ("p50", "p95", "p99"):
        low, high = figure.details["added"][which]["confidence_95"]
        assert -0.1 < low < figure.details["added"][which]["s"] < high < 0.3
    assert "p99" not in serving.added("gateway.x.first_word", ours[:50], theirs[:50], None).details["added"]


def test_every_place_is_asked_in_each_round_and_not_always_in_the_same_order(monkeypatch):
    asked = []

    def streams(place, rate, count, seed):
        asked.append((place.url, rate, seed))
        return [place.url] * count

    monkeypatch.setattr(serving, "streams", streams)
    found = serving.rounds({name: serving.Place(name) for name in "abc"}, serving.Load(0.5, 10, 46))
    assert {name: len(got) for name, got in found.items()} == dict.fromkeys("abc", 460)
    assert all(set(got) == {name} for name, got in found.items())
    turns = [[name for name, rate, seed in asked if (rate, seed) == (0.5, turn)] for turn in range(10)]
    assert all(sorted(turn) == list("abc") for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1
