"""Where the memory of a diskless node goes."""

import pytest

from sitewright.site import load
from sitewright.site.memory import GIB, MIB, budget


@pytest.mark.parametrize("total", [4 * GIB, 9 * GIB, 64 * GIB, 512 * GIB, 1536 * GIB])
def test_all_of_it_is_accounted_for(total):
    found = budget(total, 400 * MIB, None)
    assert found.allocatable + found.reserved + found.eviction == total
    assert found.reserved > 400 * MIB + found.image_store
    assert 0 < found.allocatable < total


def test_a_large_node_does_not_give_a_sixth_of_itself_to_images():
    found = budget(1536 * GIB, 400 * MIB, None)
    assert found.image_store == found.pod_files == 64 * GIB
    assert found.allocatable > 0.94 * found.total


def test_what_the_site_file_says_of_images_holds():
    assert budget(64 * GIB, 0, 3 * GIB).image_store == 3 * GIB


def test_a_node_that_does_not_fit_into_itself_leaves_less_than_nothing():
    assert budget(2 * GIB, 400 * MIB, 2 * GIB).allocatable < 0


def test_a_message_names_each_part():
    said = budget(8 * GIB, 400 * MIB, 1 * GIB).said()
    assert said == (
        "root image 400 MiB, its writes 256 MiB, container images 1,024 MiB, system 594 MiB, kept free 100 MiB"
    )


def test_the_nodes_of_the_lab_have_room_for_what_the_lab_runs():
    site = load("lab")
    [pool] = site.pools
    assert site.memory_budget(pool).allocatable // MIB == 6155
