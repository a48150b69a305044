"""Twenty rounds of sudden death, each followed by one `lab down` that must leave nothing at all.

The rounds are drawn from a seed, so a round that fails can be run again: SITEWRIGHT_CRASH_SEED, and `-k`
with its number.
"""

import contextlib
import os
import random
import signal
import time

import pytest
from own_lab import OwnLab

SEED = int(os.environ.get("SITEWRIGHT_CRASH_SEED", "2604"))
ROUNDS = 20
# What may be killed: a piece of the command line, or the command that is under way.
VICTIMS = {
    "the supervisor": "supervisor.supervisord",
    "the controller": "-m lab.hypervisor",
    "a machine": "systemd-nspawn",
    "a machine's init": "/usr/lib/systemd/systemd",
    "a BMC": "-m lab.bmc",
    "haproxy": "haproxy",
    "the hypervisor's API": "kube-apiserver",
}

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


@pytest.fixture
def lab(tmp_path):
    made = OwnLab("swcrash", tmp_path)
    yield made
    made.run("down", check=False)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_nothing_is_left_after_sudden_death(lab: OwnLab, number: int) -> None:
    chance = random.Random(f"{SEED}-{number}")
    before = lab.snapshot()
    if number % 2:
        _kill_lab_up(lab, chance)
    else:
        _kill_in_a_running_lab(lab, chance)
    if chance.random() < 0.3:
        _kill_lab_down(lab, chance)
    lab.run("down")
    assert lab.snapshot() == before


def test_a_lab_that_lost_its_supervisor_is_mended_by_lab_up(lab: OwnLab) -> None:
    lab.run("up")
    (supervisor,) = lab.processes(VICTIMS["the supervisor"])
    os.kill(supervisor, signal.SIGKILL)
    lab.run("up")
    assert lab.run("status").stdout.startswith("The lab is up.")
    assert len(lab.processes("kube-apiserver --")) == 1, (
        "the services of the dead supervisor were not replaced"
    )


def test_a_machine_outlives_supervisor_and_controller(lab: OwnLab) -> None:
    lab.run("up")
    name = lab.start_machine()
    machine = lab.processes("systemd-nspawn --quiet")
    assert machine
    for victim in ("the supervisor", "the controller"):
        for pid in lab.processes(VICTIMS[victim]):
            os.kill(pid, signal.SIGKILL)
    lab.run("up")
    assert lab.machine_state(name) == "running"
    assert lab.processes("systemd-nspawn --quiet") == machine, "it was started anew"


def _kill_lab_up(lab: OwnLab, chance: random.Random) -> None:
    command = lab.start("up")
    time.sleep(chance.uniform(0.3, 9))
    _kill(command.pid)
    command.wait()


def _kill_in_a_running_lab(lab: OwnLab, chance: random.Random) -> None:
    lab.run("up")
    lab.start_machine()
    time.sleep(chance.uniform(0, 3))
    for victim in chance.sample(sorted(VICTIMS), chance.choice([1, 2])):
        running = lab.processes(VICTIMS[victim])
        assert running, f"{victim} does not run"
        _kill(chance.choice(running))
        time.sleep(chance.uniform(0, 1.5))


def _kill_lab_down(lab: OwnLab, chance: random.Random) -> None:
    command = lab.start("down")
    time.sleep(chance.uniform(0.5, 2))
    _kill(command.pid)
    command.wait()


def _kill(pid: int) -> None:
    # One that has ended by itself meanwhile is a point in time, too.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
