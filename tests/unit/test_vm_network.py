"""The VmNetwork and HostNetwork modules."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from modules.machines.vm_network import HostNetworkSpec, VmNetworkSpec, render, render_host_network

VALID = {"name": "vlan100", "namespace": "prod", "cluster_network": "hsn", "vlan": 100, "cidr": "10.1.0.0/24"}


def spec(**changes: Any) -> VmNetworkSpec:
    return VmNetworkSpec.model_validate({**VALID, **changes})


def test_a_vlan_is_a_bridge_of_its_cluster_network() -> None:
    [manifest] = render(spec(gateway="10.1.0.1", mtu=9000))
    assert manifest["kind"] == "NetworkAttachmentDefinition"
    assert manifest["metadata"] == {
        "name": "vlan100",
        "namespace": "prod",
        "labels": {
            "network.harvesterhci.io/clusternetwork": "hsn",
            "network.harvesterhci.io/type": "L2VlanNetwork",
            "network.harvesterhci.io/vlan-id": "100",
        },
        "annotations": {
            "network.harvesterhci.io/route": '{"mode":"manual","cidr":"10.1.0.0/24","gateway":"10.1.0.1"}'
        },
    }
    assert json.loads(manifest["spec"]["config"]) == {
        "cniVersion": "0.3.1",
        "name": "vlan100",
        "type": "bridge",
        "bridge": "hsn-br",
        "promiscMode": True,
        "vlan": 100,
        "ipam": {},
        "mtu": 9000,
    }


def test_without_a_vlan_the_network_is_untagged() -> None:
    [manifest] = render(spec(vlan=None))
    assert manifest["metadata"]["labels"]["network.harvesterhci.io/type"] == "UntaggedNetwork"
    assert "network.harvesterhci.io/vlan-id" not in manifest["metadata"]["labels"]
    assert "vlan" not in json.loads(manifest["spec"]["config"])


def test_a_host_network_ties_nics_to_a_cluster_network() -> None:
    given = {"name": "hsn", "nics": ["ens1f0", "ens1f1"], "mtu": 9000}
    network, config = render_host_network(HostNetworkSpec.model_validate(given))
    assert network["kind"] == "ClusterNetwork" and network["metadata"] == {"name": "hsn"}
    assert config["spec"] == {
        "clusterNetwork": "hsn",
        "uplink": {
            "nics": ["ens1f0", "ens1f1"],
            "bondOptions": {"mode": "active-backup", "miimon": -1},
            "linkAttributes": {"mtu": 9000, "txQLen": -1},
        },
    }


def test_a_host_network_can_be_for_some_hosts_only() -> None:
    given = {"name": "hsn", "nics": ["ens1f0"], "node_selector": {"rack": "a"}}
    assert render_host_network(HostNetworkSpec.model_validate(given))[1]["spec"]["nodeSelector"] == {
        "rack": "a"
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vlan": 4095}, "vlan\n.*less than or equal to 4094"),
        ({"vlan": 0}, "vlan\n.*greater than or equal to 1"),
        ({"cidr": "10.1.0.1/24"}, "cidr\n.*not a valid IPv4 network"),
        ({"gateway": "10.2.0.1"}, "gateway 10.2.0.1 is outside 10.1.0.0/24"),
        ({"cluster_network": "highspeednet1"}, "cluster_network\n.*at most 12 characters"),
        ({"mtu": 100}, "mtu\n.*greater than or equal to 576"),
        ({"bridge": "br0"}, "bridge\n.*Extra inputs"),
    ],
)
def test_a_wrong_spec_is_refused_by_the_field_that_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        spec(**changes)
