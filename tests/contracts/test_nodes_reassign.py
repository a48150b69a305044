"""`sitewright nodes reassign` against the real Kubernetes API, and the lab's provisioner and BMCs."""

from collections.abc import Iterator

import pytest

from sitewright.provisioning.openchami import EXCLUSIVE, Group
from tests.contracts.pods_on_nodes import add_pod, clear, names
from tests.contracts.rolling_site import FIRST, SECOND, RollingSite, rolling_site

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

TO_SLURM = ("nodes", "reassign", "lab", SECOND, "--to", "slurm")
TO_GPU = ("nodes", "reassign", "lab", SECOND, "--to", "gpu")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RollingSite]:
    with rolling_site(tmp_path_factory) as made:
        made.openchami().declare_group(Group("slurm", "the batch system", EXCLUSIVE))
        yield made


@pytest.fixture
def site(running: RollingSite) -> Iterator[RollingSite]:
    begin(running)
    yield running
    clear()


def begin(site: RollingSite) -> None:
    """Both nodes are the pool's; the second has a pod."""
    clear()
    if site.openchami().owners().get(SECOND) == "slurm":
        site.openchami().hand_over(SECOND, "gpu")
    site.up()
    add_pod("web", SECOND)


def is_slurms(site: RollingSite) -> bool:
    owners = site.openchami().owners()
    return (
        owners == {FIRST: "gpu", SECOND: "slurm"}
        and site.runs() == {FIRST: "old"}
        and site.pressed() == {FIRST: [], SECOND: ["off"]}
        and site.boots() == {FIRST: "old", SECOND: ""}
        and names() == set()
    )


def test_a_node_goes_to_the_batch_system_and_comes_back(site: RollingSite) -> None:
    output = site.operator.types(*TO_SLURM, "--yes")
    assert is_slurms(site)
    assert f"{SECOND}: gpu -> slurm" in output
    assert f"overrides: {{{SECOND}: {{absent: true}}}}" in output
    assert "Nothing to do: slurm has them." in site.operator.types(*TO_SLURM, "--yes")

    site.machines[SECOND].state = "On"  # the batch system runs it
    output = site.operator.types(*TO_GPU, "--yes")
    assert f"{SECOND}: slurm -> gpu" in output and "Next: pulumi up -s lab --refresh" in output
    assert site.openchami().owners() == {FIRST: "gpu", SECOND: "gpu"}
    assert site.pressed()[SECOND] == ["off", "off, not in the cluster"]


def test_a_dry_run_changes_nothing(site: RollingSite) -> None:
    said = f"{SECOND}: of gpu; to be drained, taken out of the cluster, switched off, and slurm's"
    assert said in site.operator.types(*TO_SLURM, "--dry-run")
    assert site.openchami().owners() == {FIRST: "gpu", SECOND: "gpu"}
    assert site.runs() == {FIRST: "old", SECOND: "old"}
    assert site.pressed() == {FIRST: [], SECOND: []} and names() == {"web"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lab", SECOND, "--to", "pbs"), "group pbs: there is no such group in SMD"),
        (("lab", "x1000c0s7b0n0", "--to", "slurm"), "no node 'x1000c0s7b0n0' in site lab"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_touched(site, words, message) -> None:
    assert message in site.operator.types("nodes", "reassign", *words, "--yes", status=1)
    assert site.pressed() == {FIRST: [], SECOND: []} and names() == {"web"}


def test_a_pod_that_nobody_makes_again_keeps_its_node(site: RollingSite) -> None:
    add_pod("lone", SECOND, owner="")
    assert "nobody makes these pods again" in site.operator.types(*TO_SLURM, "--yes", status=1)
    assert site.openchami().owners()[SECOND] == "gpu" and site.pressed()[SECOND] == []


def test_killed_anywhere_it_goes_on_and_the_node_never_has_two_owners(running: RollingSite) -> None:
    begin(running)
    running.operator.types(*TO_SLURM, "--yes")
    effects = running.operator.effects
    assert effects >= 7, "cordon, eviction, power, cluster, boot parameters, two owners"
    for place in range(effects):
        begin(running)
        running.operator.types(*TO_SLURM, "--yes", kill_at=place)
        running.operator.types(*TO_SLURM, "--yes")
        assert is_slurms(running), f"killed at {place}"
