"""Whatever name the site model takes, the modules and Kubernetes take too: nothing is refused half-way up."""

import pytest
import yaml

from sitewright.site.names import (
    CLUSTER_NAME_LENGTH,
    CLUSTER_NETWORK_NAME_LENGTH,
    MODEL_NAME_LENGTH,
    VM_IMAGE_NAME_LENGTH,
    VM_NAME_LENGTH,
)

LABEL = 63
BRIDGE = 15 - len("-br")


@pytest.fixture(scope="module")
def longest(program, site_file):
    """The lab with the longest name there may be for each thing, and three control planes behind an address."""
    network, image, pool, model = (
        "n" * LABEL,
        "i" * VM_IMAGE_NAME_LENGTH,
        "p" * LABEL,
        "m" * MODEL_NAME_LENGTH,
    )
    cluster, vm = "c" * CLUSTER_NAME_LENGTH, f"{'v' * (VM_NAME_LENGTH - 1)}[1-3]"
    file = site_file("lab")
    site = yaml.safe_load(file.read_text())
    site["networks"][0]["name"] = network
    site["hypervisor"] |= {"namespace": "s" * LABEL, "cluster_network": "k" * CLUSTER_NETWORK_NAME_LENGTH}
    site["hypervisor"]["images"][0]["name"] = image
    site["virtual_machines"][0] |= {"name": vm, "image": image, "network": network}
    site["clusters"][0] |= {"name": cluster, "control_plane": vm, "virtual_address": "10.77.0.20"}
    site["pools"][0] |= {"name": pool, "cluster": cluster, "network": network, "labels": {}}
    site["services"]["models"][0] |= {"name": model, "cluster": cluster, "pool": pool}
    site["services"]["fine_tuning"] |= {"namespace": "t" * LABEL, "pool": pool, "models": [model]}
    site["services"]["gateway"] |= {"cluster": cluster, "pool": pool}
    site["services"]["slo"] |= {"cluster": cluster, "pool": pool}
    site["services"]["models"][0]["router"] = {}
    collection = {"name": "c" * LABEL, "model": model, "alias": "a" * MODEL_NAME_LENGTH}
    site["services"]["retrieval"] |= {"pool": pool, "collections": [collection]}
    site["services"]["batch_queues"] |= {"pool": pool, "teams": ["q" * LABEL], "priorities": {"u" * LABEL: 1}}
    file.write_text(yaml.safe_dump(site))
    return program(file)


def test_the_longest_names_of_a_site_make_objects_with_legal_names(longest):
    names = {
        found.inputs["metadata"]["name"] for found in longest.resources.values() if "metadata" in found.inputs
    }
    pools = longest.of("IPPool").keys()  # a name of 253 characters, as most objects may have
    assert max(len(name) for name in names - pools) == LABEL
    assert {f"{'c' * CLUSTER_NAME_LENGTH}-api"} == longest.of("LoadBalancer").keys()
    assert len(longest.of("VirtualMachine")) == 3


def test_labels_made_of_names_are_no_longer_than_a_label_may_be(longest):
    for found in longest.resources.values():
        for label in found.inputs.get("metadata", {}).get("labels", {}).values():
            assert len(label) <= LABEL, found.urn


def test_the_bridge_of_the_longest_cluster_network_is_an_interface_of_linux():
    assert CLUSTER_NETWORK_NAME_LENGTH == BRIDGE


@pytest.mark.parametrize("name", ["hypervisor", "kubernetes", "vllm"])
def test_names_that_only_some_things_may_have_are_free_for_the_others(program, site_file, name):
    """A reserved name is reserved where it would clash, and only there."""
    file = site_file("lab")
    site = yaml.safe_load(file.read_text())
    site["networks"][0]["name"] = site["virtual_machines"][0]["network"] = site["pools"][0]["network"] = name
    site["pools"][0]["name"] = site["services"]["models"][0]["pool"] = name
    for service in ("fine_tuning", "gateway", "slo", "retrieval", "batch_queues"):
        site["services"][service]["pool"] = name
    site["pools"][0]["labels"] = {}
    file.write_text(yaml.safe_dump(site))
    assert f"join-{name}" in program(file).playbooks()
