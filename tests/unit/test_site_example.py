"""The worked example has the size of Alps, and is checked at the speed of a small site."""

import pytest

from sitewright.site import load
from sitewright.site.files import REPOSITORY
from sitewright.site.hostlist import fold
from tests.unit.function_calls import function_calls

EXAMPLE = REPOSITORY / "environments/example-alps.yaml"


@pytest.fixture(scope="module")
def alps():
    return load(EXAMPLE)


def test_21_cabinets_hold_2688_nodes_with_10752_gpus(alps):
    production = [node for node in alps.nodes if node.cluster == "svc"]
    assert fold(node.xname for node in production) == "x[1000-1020]c[0-7]s[0-7]b[0-1]n0"
    assert len(production) == 2688
    assert sum(node.gpus for node in production) == 10_752
    assert [node.nid for node in production] == list(range(1, 2689))


def test_two_clusters_have_three_control_planes_behind_a_virtual_address(alps):
    assert {cluster.name: len(alps.control_plane(cluster)) for cluster in alps.clusters} == {
        "svc": 3,
        "tds": 3,
    }
    assert {cluster.distribution for cluster in alps.clusters} == {"rke2"}
    assert all(cluster.virtual_address for cluster in alps.clusters)


def test_no_two_machines_share_an_address_a_mac_or_a_number(alps):
    addresses = [host.address for host in (*alps.vms, *alps.nodes)] + [
        node.bmc_address for node in alps.nodes
    ]
    macs = [host.mac for host in (*alps.vms, *alps.nodes)] + [node.bmc_mac for node in alps.nodes]
    assert len(set(addresses)) == len(addresses)
    assert len(set(macs)) == len(macs)
    assert len({node.nid for node in alps.nodes}) == len(alps.nodes)


def test_the_tds_is_apart_from_production(alps):
    tds = alps.pool_nodes("tds")
    assert {node.xname.split("c")[0] for node in tds} == {"x8000", "x9000"}
    assert {node.network for node in tds} == {"tds-nodes"}
    assert alps.warnings == ()


def test_its_paths_are_relative_and_no_secret_is_in_it():
    text = EXAMPLE.read_text()
    assert "/var/lib" not in text
    assert "password:" not in text


def test_loading_it_compares_no_node_with_every_other(alps):
    """458 calls per node when this was written; one look at each pair would be 2,700 more for every node."""
    assert function_calls(lambda: load(EXAMPLE)) < 1000 * len(alps.nodes)
