"""A roll that is killed (SIGKILL) after each thing it does: the same command finishes it.

Nothing is done twice that disturbs a node.
"""

from collections.abc import Iterator

import pytest

from tests.contracts.pods_on_nodes import add_pod, clear, names
from tests.contracts.rolling_site import FIRST, NEW, SECOND, RollingSite, rolling_site

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

ROLL = ("nodes", "roll", "lab", "gpu")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RollingSite]:
    with rolling_site(tmp_path_factory) as made:
        yield made


def begin(site: RollingSite) -> None:
    """The second node runs the new image already, so that there is one to roll."""
    clear()
    site.up()
    site.declare(NEW)
    site.restart(SECOND)
    add_pod("web", FIRST)


def test_killed_anywhere_it_goes_on_where_it_was(site: RollingSite) -> None:
    begin(site)
    site.operator.types(*ROLL)
    effects = site.operator.effects
    assert effects >= 15, "journal, cordon, eviction, power, playbooks, uncordon"
    for place in range(effects):
        begin(site)
        site.operator.types(*ROLL, kill_at=place)
        # A controller would make the pod again, and put it on no node that is cordoned.
        assert names() <= {"web"}
        site.operator.types(*ROLL)
        assert site.runs() == {FIRST: "new", SECOND: "new"}, f"killed at {place}"
        assert site.pressed() == {FIRST: ["off", "on"], SECOND: []}, f"killed at {place}"
        assert names() == set()


def test_killed_at_the_end_of_a_reboot_the_next_one_is_another(site: RollingSite) -> None:
    """The last thing a roll does is to write that it is complete."""
    clear()
    site.up()
    site.operator.types(*ROLL, "--reboot")
    all_done = site.operator.effects - 2
    assert site.pressed() == {FIRST: ["off", "on"], SECOND: ["off", "on"]}
    site.operator.types(*ROLL, "--reboot", kill_at=all_done)
    twice = {FIRST: ["off", "on"] * 2, SECOND: ["off", "on"] * 2}
    assert site.pressed() == twice
    assert "Nothing to do" in site.operator.types(*ROLL, "--reboot")
    assert site.pressed() == twice
    assert "2 of 2 nodes go to image" in site.operator.types(*ROLL, "--reboot")


def test_killed_anywhere_on_its_way_back_it_goes_on(site: RollingSite) -> None:
    """From a roll that failed at the health of its first node."""

    def failed() -> None:
        clear()
        site.up()
        site.declare(NEW)
        site.sick(FIRST)
        site.operator.types(*ROLL, status=1)
        site.sick(FIRST, False)

    failed()
    site.operator.types(*ROLL, "--back")
    effects = site.operator.effects
    # The first ones: afterwards the steps are those of the test above.
    for place in range(min(5, effects)):
        failed()
        site.operator.types(*ROLL, "--back", kill_at=place)
        site.operator.types(*ROLL, "--back")
        assert site.runs() == {FIRST: "old", SECOND: "old"}, f"killed at {place}"
        assert site.boots() == {FIRST: "old", SECOND: "old"}, f"killed at {place}"
        assert site.pressed() == {FIRST: ["off", "on"] * 2, SECOND: []}, f"killed at {place}"
