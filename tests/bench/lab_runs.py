"""The stages of `sitewright lab up --deploy`: cold, warm, and with nothing to do. Takes down the running lab."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import deploy, paths
from lab.plan import LabPlan
from lab.pulumi_events import IDLE_SECONDS
from sitewright.errors import SitewrightError
from tests.bench.figure import Figure, progress
from tests.bench.memory import GIB, Sampler, group_memory, tree_memory
from tests.bench.output import Stage, ended, stage_of

ENVIRONMENT = "lab"
UP = ("lab", "-e", ENVIRONMENT, "up", "--deploy")
DOWN = ("lab", "-e", ENVIRONMENT, "down")
WARM_S = 240.0
NOOP_PULUMI_S = 12.0
LAB_MEMORY = "lab, without pages of files"
COMMAND_MEMORY = "resident, of the command and what it started"


@dataclass(frozen=True)
class Run:
    """One command. stages: those it printed; lab, command: samples of memory."""

    stages: list[Stage]
    seconds: float
    output: str
    lab: Sampler
    command: Sampler


def warm() -> Iterator[Figure]:
    """From no lab at all, with full caches, to the model's answer."""
    sitewright(DOWN)
    yield from figures("lab_up.warm", sitewright(UP), target=WARM_S)


def noop() -> Iterator[Figure]:
    """The same command when everything is there, and `pulumi up` as an operator types it, preview included."""
    run = sitewright(UP)
    [update] = [stage for stage in run.stages if stage.name == "pulumi up"]
    if update.note != "no changes":
        raise SitewrightError(f"the second `pulumi up` is not a no-op: {update.note}")
    yield from figures("lab_up.noop", run, targets={"pulumi up": NOOP_PULUMI_S})
    plan = LabPlan.of(ENVIRONMENT)
    run = measure(
        ["pulumi", "up", "--yes", "--non-interactive", "--stack", plan.site.name], deploy.variables(plan)
    )
    if changes := changed(run.output):
        raise SitewrightError(f"`pulumi up` is not a no-op: {', '.join(changes)}")
    yield Figure(
        "pulumi_up.noop_with_preview",
        run.seconds,
        "s",
        details={"peak_gib": _gib(run.command.peak()), "peak_of": COMMAND_MEMORY},
    )


def cold() -> Iterator[Figure]:
    """From empty caches: programs, images, environment and model are made anew. The caches of the machine are
    neither read nor changed: the run has a home directory of its own, which is removed with its lab."""
    sitewright(DOWN)
    with _empty_home() as environment:
        try:
            yield from figures("lab_up.cold", sitewright(UP, environment))
        finally:
            sitewright(DOWN, environment)


def figures(
    name: str, run: Run, target: float | None = None, targets: Mapping[str, float] | None = None
) -> Iterator[Figure]:
    """The whole, then each stage, with the memory at its peak."""
    yield Figure(name, run.seconds, "s", target, details=_peaks(run, 0.0, float("inf")))
    for stage in run.stages:
        # A component counts as done only after it has been idle; its seconds end where the idleness began.
        end = stage.ended - (IDLE_SECONDS if stage.component else 0.0)
        details = {"state": stage.state, "note": stage.note, **_peaks(run, end - stage.seconds, end)}
        yield Figure(
            f"{name}.{stage.name}", stage.seconds, "s", (targets or {}).get(stage.name), None, details
        )


def sitewright(arguments: tuple[str, ...], environment: Mapping[str, str] | None = None) -> Run:
    return measure([str(Path(sys.executable).with_name("sitewright")), *arguments], environment)


def measure(command: list[str], environment: Mapping[str, str] | None = None) -> Run:
    """Run a command, its lines passed on as progress. Raises: SitewrightError where it fails."""
    progress(f"$ {' '.join(command)}")
    stages, lines, began = [], [], time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=paths.REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    with (
        Sampler(lambda: group_memory(paths.lab_name())) as lab_memory,
        Sampler(lambda: tree_memory(process.pid)) as command_memory,
    ):
        for line in process.stdout:
            progress(f"  {line.rstrip()}")
            lines.append(line)
            if stage := stage_of(line, time.monotonic()):
                stages.append(stage)
        process.wait()
    seconds, output = time.monotonic() - began, "".join(lines)
    if process.returncode:
        raise SitewrightError(f"`{' '.join(command)}` failed:\n{output[-2000:]}")
    return Run(ended(stages), seconds, output, lab_memory, command_memory)


def changed(output: str) -> list[str]:
    """Lines of the engine's summaries that are about something else than unchanged resources."""
    return [line.strip() for line in output.splitlines() if re.match(r"\s+[+~-]+ ?\d+ \S", line)]


def _peaks(run: Run, begin: float, end: float) -> dict[str, object]:
    return {
        "peak_gib": {
            LAB_MEMORY: _gib(run.lab.peak(begin, end)),
            COMMAND_MEMORY: _gib(run.command.peak(begin, end)),
        }
    }


def _gib(size: int) -> float:
    return round(size / GIB, 3)


@contextmanager
def _empty_home() -> Iterator[dict[str, str]]:
    """An environment in which every cache is below a new, empty home on the disk of the real one."""
    home = Path.home() / ".cache" / "sitewright-bench-cold"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    if (settings := Path.home() / ".config").is_dir():
        (home / ".config").symlink_to(settings)  # where modules and packages are fetched from
    moved = {
        "GOCACHE",
        "GOMODCACHE",
        "GOPATH",
        "UV_CACHE_DIR",
        "XDG_CACHE_HOME",
        "SITEWRIGHT_CACHE",
        "PULUMI_HOME",
    }
    kept = {name: value for name, value in os.environ.items() if name not in moved | {"SITEWRIGHT_TOOLS"}}
    try:
        # Go makes the files of its module cache read-only, and then nobody can remove them.
        yield {**kept, "HOME": str(home), "GOFLAGS": f"{kept.get('GOFLAGS', '')} -modcacherw".strip()}
    finally:
        shutil.rmtree(home, ignore_errors=True)
