"""What the lab costs when nobody asks it anything."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from lab import cgroup, paths
from lab.plan import LabPlan
from lab.status import status
from sitewright.errors import SitewrightError
from tests.bench.figure import Figure, progress
from tests.bench.memory import GIB, group_cpu_seconds, group_memory

TARGET_CORES = 0.6
TARGET_GIB = 5.0


def idle(seconds: float) -> Iterator[Figure]:
    """Cores on average over `seconds`, and memory at their end, of the lab's control group and its parts."""
    _require_running()
    progress(f"idle: watching the lab for {seconds:.0f} s")
    groups = parts(paths.lab_name())
    before, began = {group: group_cpu_seconds(group) for group in groups}, time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - began
    cores = {group: (group_cpu_seconds(group) - before[group]) / elapsed for group in groups}
    memory = {group: group_memory(group) / GIB for group in groups}
    how = {"over_s": round(elapsed, 1)}
    yield _figure("idle.cpu", cores, "cores", TARGET_CORES, how)
    yield _figure("idle.memory", memory, "GiB", TARGET_GIB, {"of": "control group, without pages of files"})


def parts(lab: str) -> list[str]:
    """The lab's group first, then its services and each machine."""
    machines = sorted(cgroup.children(f"{lab}/machines"))
    return [lab, f"{lab}/services", *(f"{lab}/machines/{name}" for name in machines)]


def _figure(
    name: str, values: dict[str, float], unit: str, target: float, details: Mapping[str, Any]
) -> Figure:
    (_, whole), *rest = values.items()
    named = {group.rsplit("/", 1)[-1]: round(value, 3) for group, value in rest}
    return Figure(name, whole, unit, target, details={"parts": named, **details})


def _require_running() -> None:
    found = status(LabPlan.of("lab"))
    stopped = [machine.name for machine in found.machines if machine.state != "running"]
    if found.state != "up" or stopped:
        raise SitewrightError(
            f"the lab is {found.state}, machines that do not run: {', '.join(stopped) or 'none'}",
            "Bring it up with `make lab`, or measure `--only warm,idle`.",
        )
