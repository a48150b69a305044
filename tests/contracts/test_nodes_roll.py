"""`sitewright nodes roll` against the real Kubernetes API, the lab's provisioner and BMCs, and real playbooks."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from tests.contracts.fake_hypervisor import until
from tests.contracts.pods_on_nodes import add_budget, add_pod, allow, clear, names
from tests.contracts.rolling_site import FIRST, NEW, OLD, SECOND, RollingSite, rolling_site
from tests.contracts.typing_operator import Operator

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

ROLLED = ["off", "on"]
TYPED = ("nodes", "roll", "lab", "gpu")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RollingSite]:
    with rolling_site(tmp_path_factory) as made:
        yield made


@pytest.fixture
def site(running: RollingSite) -> Iterator[RollingSite]:
    running.up()
    yield running
    clear()


def roll(site: RollingSite, *words: str, **more: Any) -> str:
    """What is printed, both streams."""
    return site.operator.types(*TYPED, *words, **more)


def journal(site: RollingSite) -> Path:
    return site.root / ".sitewright/rolls/lab-gpu.json"


def test_a_pool_comes_to_the_image_that_was_declared_one_node_after_the_other(site: RollingSite) -> None:
    add_pod("web", FIRST)
    site.declare(NEW)
    assert site.pressed() == {FIRST: [], SECOND: []}, "to declare an image disturbs no node"
    output = roll(site, playbooks=True)
    assert site.runs() == {FIRST: "new", SECOND: "new"}
    assert site.pressed() == {FIRST: ROLLED, SECOND: ROLLED}
    assert names() == set()
    steps = [line for line in output.splitlines() if line.startswith("x1000") and "default/" not in line]
    states = ["drains", "goes off", "goes on", "boots and joins", "is looked at", "goes back into service"]
    assert steps == [
        f"{name}: {state}" for name in (FIRST, SECOND) for state in [*states, f"runs {NEW[:12]}"]
    ]
    assert "Nothing to do: all 2 nodes run bbbbbbbbbbbb." in roll(site)
    assert site.pressed() == {FIRST: ROLLED, SECOND: ROLLED}


def test_a_dry_run_names_the_nodes_and_changes_nothing(site: RollingSite) -> None:
    site.declare(NEW)
    output = roll(site, "--dry-run")
    assert [line.split() for line in output.splitlines()[1:3]] == [
        [name, OLD[:12], NEW[:12], "-"] for name in (FIRST, SECOND)
    ]
    assert site.pressed() == {FIRST: [], SECOND: []}
    assert not journal(site).exists()


def test_nodes_that_run_the_image_boot_again_when_that_is_asked_for(site: RollingSite) -> None:
    """Other kernel arguments reach a node at its next boot only."""
    output = roll(site, "--reboot", "--dry-run")
    assert "2 nodes, 1 at a time" in output
    site.sick(SECOND)
    roll(site, "--reboot", status=1)
    assert site.pressed() == {FIRST: ROLLED, SECOND: ROLLED}
    site.sick(SECOND, False)
    assert f"1 nodes run {OLD[:12]}" in roll(site)
    assert site.pressed() == {FIRST: ROLLED, SECOND: ROLLED}, "no node was switched twice"
    assert site.runs() == {FIRST: "old", SECOND: "old"}
    assert "add --reboot" in roll(site)


def test_the_first_failure_stops_it_and_the_same_command_goes_on(site: RollingSite) -> None:
    site.declare(NEW)
    site.sick(FIRST)
    output = roll(site, status=1, playbooks=True)
    assert f'task "The node is well" failed on {FIRST}: a fever' in output
    assert f"stopped: {FIRST} out of service, the other nodes are left alone" in output
    assert "sitewright nodes roll lab gpu --back" in output
    assert site.runs() == {FIRST: "new cordoned", SECOND: "old"}
    assert site.pressed() == {FIRST: ROLLED, SECOND: []}
    site.sick(FIRST, False)
    roll(site)
    assert site.runs() == {FIRST: "new", SECOND: "new"}
    assert site.pressed() == {FIRST: ROLLED, SECOND: ROLLED}, "no node was switched twice"


def test_back_leads_to_the_image_before_and_declares_it(site: RollingSite) -> None:
    site.declare(NEW)
    site.sick(FIRST)
    roll(site, status=1)
    site.sick(FIRST, False)
    output = roll(site, "--back")
    assert "1 of 2 nodes go to image aaaaaaaaaaaa" in output
    assert "`pulumi up --refresh` would declare the image of the site file again" in output
    assert site.runs() == {FIRST: "old", SECOND: "old"}
    assert site.boots() == {FIRST: "old", SECOND: "old"}
    assert site.pressed() == {FIRST: ROLLED * 2, SECOND: []}


def test_a_named_image_is_declared_node_by_node(site: RollingSite) -> None:
    site.sick(FIRST)
    roll(site, "--image", "bbbb", status=1)
    assert site.boots() == {FIRST: "new", SECOND: "old"}, "one that restarts by itself stays with what works"
    site.sick(FIRST, False)
    roll(site)
    assert site.boots() == {FIRST: "new", SECOND: "new"}
    assert site.runs() == {FIRST: "new", SECOND: "new"}
    assert f"root=live:http://10.77.0.1:8080/boot/{NEW}/rootfs.squashfs" in site.script(SECOND)


def test_a_node_that_somebody_had_cordoned_is_rolled_first_and_stays_cordoned(site: RollingSite) -> None:
    client.CoreV1Api().patch_node(SECOND, {"spec": {"unschedulable": True}})
    site.declare(NEW)
    output = roll(site)
    assert output.index(f"{SECOND}: drains") < output.index(f"{FIRST}: drains")
    assert f"{SECOND}: runs bbbbbbbbbbbb, still cordoned" in output
    assert site.runs() == {FIRST: "new", SECOND: "new cordoned"}


def test_half_of_the_pool_at_a_time_is_one_of_two_and_all_are_both(site: RollingSite) -> None:
    site.declare(NEW)
    assert "2 nodes, 1 at a time" in roll(site, "--dry-run", "--max-unavailable", "50%")
    output = roll(site, "--max-unavailable", "2")
    lines = output.splitlines()
    assert lines.index(f"{SECOND}: drains") == lines.index(f"{FIRST}: drains") + 1
    assert site.runs() == {FIRST: "new", SECOND: "new"}


def test_a_budget_that_allows_nothing_stops_it_with_the_pod_and_the_reason(site: RollingSite) -> None:
    add_pod("replica", FIRST, labels={"app": "web"})
    add_budget("web", {"app": "web"}, allowed=0)
    site.declare(NEW)
    output = roll(site, "--drain-timeout", "1", status=1)
    assert f"{FIRST}: default/replica is left: the cluster refused: Cannot evict pod" in output
    assert site.pressed() == {FIRST: [], SECOND: []}
    # Given up: the node never left its image, so it only goes back into service.
    roll(site, "--back")
    assert site.runs() == {FIRST: "old", SECOND: "old"}
    assert site.pressed() == {FIRST: [], SECOND: []}
    assert names() == {"replica"}
    allow("web", 1)


def test_a_node_that_does_not_come_back_stops_it(site: RollingSite) -> None:
    site.declare(NEW)
    site.machines[FIRST].stuck = True
    output = roll(site, "--boot-timeout", "0.2", status=1)
    assert f"not there yet, tried again: {FIRST} does not answer" in output
    assert f"stopped: {FIRST} out of service" in output
    assert site.runs()[SECOND] == "old"


def test_a_node_that_came_back_with_another_image_is_told_and_boots_again_in_the_next_run(
    site: RollingSite,
) -> None:
    site.declare(NEW)
    machine = site.machines[FIRST]
    boot = machine._boot

    def declared_back_meanwhile() -> None:
        site.declare(OLD)
        boot()
        site.declare(NEW)

    machine._boot = declared_back_meanwhile  # type: ignore[method-assign]
    try:
        output = roll(site, status=1)
    finally:
        machine._boot = boot  # type: ignore[method-assign]
    assert f"{FIRST} runs image aaaaaaaaaaaa, not bbbbbbbbbbbb" in output
    roll(site)
    assert site.runs() == {FIRST: "new", SECOND: "new"}
    assert site.pressed() == {FIRST: ROLLED * 2, SECOND: ROLLED}


def test_no_node_is_taken_out_while_another_one_is_broken(site: RollingSite) -> None:
    site.declare(NEW)
    boot_id = site.restart(SECOND)  # it runs the image already
    site.machines[SECOND].say("False", boot_id)
    assert f"not Ready: {SECOND}; 1 may be out of service" in roll(site, status=1)
    assert site.pressed()[FIRST] == []


def test_two_rolls_of_a_pool_at_a_time_are_refused(site: RollingSite) -> None:
    add_pod("replica", FIRST, labels={"app": "web"})
    add_budget("web", {"app": "web"}, allowed=0)
    site.declare(NEW)
    other = Operator(site.root, site.kubeconfig)
    thread = threading.Thread(target=lambda: other.types(*TYPED, "--drain-timeout", "20", status=0))
    thread.start()
    until(lambda: journal(site).exists(), "the first one has begun", 30)
    assert "another `sitewright nodes roll` of this pool runs" in roll(site, status=1)
    allow("web", 1)
    thread.join()
    other.close()
    assert site.runs() == {FIRST: "new", SECOND: "new"}


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--image", "bbbb", "--back"), 2, "give one of them"),
        (("--image", "cccc"), 1, "no image begins with 'cccc'"),
        (("--back",), 1, "no roll of this pool is recorded here"),
        (("--max-unavailable", "0"), 1, "--max-unavailable '0': wanted is a number of nodes"),
        (("--health", "playbooks/none.yml"), 1, "no such playbook"),
    ],
)
def test_bad_arguments_are_refused_before_anything_changes(
    site: RollingSite, words: tuple[str, ...], status: int, said: str
) -> None:
    site.declare(NEW)
    assert said in roll(site, *words, status=status)
    assert site.pressed() == {FIRST: [], SECOND: []}
    assert site.runs() == {FIRST: "old", SECOND: "old"}


def test_a_journal_that_no_roll_wrote_is_refused(site: RollingSite) -> None:
    site.declare(NEW)
    journal(site).parent.mkdir(parents=True)
    journal(site).write_text('{"version": 1, "pool": "gpu"')
    assert f"{journal(site)}: no journal of a roll: the file: Invalid JSON" in roll(site, status=1)
    assert site.pressed() == {FIRST: [], SECOND: []}


def test_a_pool_that_is_not_declared_is_refused(site: RollingSite) -> None:
    site.openchami().release([{"xname": FIRST, "bmc": FIRST[:-2], "mac": site.site.nodes[0].mac}])
    assert f"pool gpu: the provisioner has no boot image for {FIRST}" in roll(site, status=1)
