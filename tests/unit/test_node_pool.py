"""What may be said about a pool of nodes, and what its procedures are told."""

import json
from typing import Any

import pulumi
import pytest
import yaml
from pydantic import ValidationError

from modules.nodes.node_pool import NodePool, NodePoolSpec
from sitewright.provider.openchami.kinds import BootConfiguration, CloudInitGroup, NodeGroup, Nodes

NODE = {
    "xname": "x1000c0s0b0n0",
    "nid": 1,
    "mac": "02:00:00:00:00:01",
    "address": "10.77.0.64",
    "bmc": "x1000c0s0b0",
    "bmc_address": "10.77.0.160",
    "bmc_mac": "02:00:00:00:01:01",
    "bmc_url": "https://10.77.0.160",
}
PROVISIONER = {name: f"http://10.77.0.1/{name}" for name in ("smd", "bss")}
VALID: dict[str, Any] = {
    "name": "gpu",
    "cluster": "svc",
    "nodes": [NODE],
    "labels": {"sitewright.dev/pool": "gpu"},
    "taints": ["nvidia.com/gpu=present:NoSchedule"],
    "kernel_arguments": ["quiet"],
    "dns_address": "10.79.0.10",
    "identity": ["https://10.77.0.10:9444"],
    "memory": {"allocatable": 5, "reserved": 2, "eviction": 1, "image_store": 1, "pod_files": 1},
    "ssh_public_key": "ssh-ed25519 AAAA operator",
    "provisioner": PROVISIONER,
    "bmc": {"bmc_username": "root", "bmc_password_file": "/secrets/bmc"},
}
BOOT = {"kernel_url": "http://k", "initrd_url": "http://i", "kernel_arguments": ["root=live:http://r"]}
CLUSTER = {"kubeconfig": "kubeconfig", "endpoint": "https://10.77.0.10:6443", "ca_certificate": "CA"}


class Engine(pulumi.runtime.Mocks):
    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        if not args.typ.startswith("sitewright:modules:"):
            self.runs[args.name] = args.inputs
        return args.name, {**args.inputs, "results": {"nodes": {}}}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], None]:
        raise AssertionError(args.token)


def runs(**more: Any) -> dict[str, dict[str, Any]]:
    engine = Engine()
    pulumi.runtime.set_mocks(engine, preview=False)

    @pulumi.runtime.test
    def program() -> None:
        NodePool(NodePoolSpec.model_validate(VALID | more), "lab", BOOT, dict(CLUSTER))

    program()
    return engine.runs


DECLARED = {"gpu-group", "gpu-cloud-init", "gpu-nodes", "gpu-boot"}


def test_a_pool_is_as_many_resources_however_many_nodes_it_has():
    names = {*DECLARED, "power-gpu", "join-gpu", "release-gpu"}
    assert runs().keys() == names
    many = [{**NODE, "xname": f"x1000c0s{slot}b0n0"} for slot in range(8)]
    assert runs(nodes=many).keys() == names


def test_each_step_has_a_way_back():
    assert {name: run["undo"] for name, run in runs().items() if name not in DECLARED} == {
        "power-gpu": "playbooks/power-off-nodes.yml",
        "join-gpu": "playbooks/remove-nodes.yml",
        "release-gpu": "playbooks/release-nodes.yml",
    }


def test_what_is_released_is_known_by_name_and_without_the_site_file():
    """By name, so that a preview names the node that leaves."""
    variables = runs()["release-gpu"]["variables"]
    assert variables["nodes"] == {
        "x1000c0s0b0n0": {
            "xname": "x1000c0s0b0n0",
            "mac": "02:00:00:00:00:01",
            "bmc": "x1000c0s0b0",
            "power": {"xname": "x1000c0s0b0n0", "url": "https://10.77.0.160"},
        }
    }
    assert variables.keys() == {
        *("pool", "nodes", "kubeconfig", "smd", "bss", "bmc_username", "bmc_password_file")
    }


def test_a_release_is_told_what_gives_out_boot_scripts():
    told = {"smd": "http://10.77.0.1/smd", "boot_service": "http://10.77.0.1/boot-service"}
    variables = runs(provisioner=told)["release-gpu"]["variables"]
    assert variables["boot_service"] == told["boot_service"] and "bss" not in variables


def test_nodes_are_told_to_give_notice_of_their_boots_only_where_they_have_to():
    told = [
        json.loads(made["join-gpu"]["variables"]["settings"]) for made in (runs(boot_notice=True), runs())
    ]
    assert told[0].pop("boot_notice") is True
    assert told[0] == told[1]


def test_the_pools_kernel_arguments_come_after_those_of_the_image():
    boot = runs()["gpu-boot"]
    assert (boot["kernel"], boot["initrd"]) == ("http://k", "http://i")
    assert boot["arguments"] == ["root=live:http://r", "quiet"]
    assert boot["nodes"] == ["x1000c0s0b0n0"]


def test_what_the_provisioner_is_told_of_a_node_is_what_the_resource_takes():
    """By name, so that a preview names the node that changes."""
    found = runs()
    assert found["gpu-nodes"]["nodes"] == {
        "x1000c0s0b0n0": {
            "nid": 1,
            "mac": "02:00:00:00:00:01",
            "address": "10.77.0.64",
            "bmc": "x1000c0s0b0",
            "bmcAddress": "10.77.0.160",
            "bmcMac": "02:00:00:00:01:01",
        }
    }
    for kind, name in ((NodeGroup, "group"), (CloudInitGroup, "cloud-init"), (Nodes, "nodes")):
        assert kind.model_validate(found[f"gpu-{name}"]).identity == "lab/gpu"
    assert BootConfiguration.model_validate(found["gpu-boot"]).identity == "lab/gpu"


def test_bmcs_are_told_by_url_and_the_password_by_its_file():
    """What a site does not say (here: the CA) is left out, and the playbook has a default."""
    assert runs()["power-gpu"]["variables"] == {
        "nodes": [{"xname": "x1000c0s0b0n0", "url": "https://10.77.0.160"}],
        "bmc_username": "root",
        "bmc_password_file": "/secrets/bmc",
    }


def test_a_site_with_power_control_has_it_switch_the_nodes():
    told = PROVISIONER | {"pcs": "http://10.77.0.1/pcs", "token_file": "/secrets/jwt"}
    found = runs(provisioner=told)
    for name in ("power-gpu", "release-gpu"):
        assert found[name]["variables"]["pcs"] == "http://10.77.0.1/pcs"
        assert found[name]["variables"]["token_file"] == "/secrets/jwt"


def test_other_labels_reach_nodes_that_run_and_those_that_boot_later_and_nothing_is_switched():
    before, after = runs(), runs(labels={"sitewright.dev/pool": "gpu", "rack": "1"})
    assert [name for name in before if before[name] != after[name]] == ["gpu-cloud-init", "join-gpu"]


def test_what_a_node_reads_at_boot_is_what_it_is_told_later_and_holds_no_secret():
    found = runs()
    text = found["gpu-cloud-init"]["cloudConfig"]
    assert text.startswith("#cloud-config\n")
    [file] = yaml.safe_load(text)["write_files"]
    assert file["content"] == found["join-gpu"]["variables"]["settings"]
    settings = json.loads(file["content"])
    assert settings.keys() == {
        "endpoint",
        "ca_certificate",
        "identity",
        "labels",
        "taints",
        "kubelet",
        "memory",
    }
    assert "kubeconfig" not in settings.values()


def test_nodes_of_another_distribution_are_told_of_it_and_of_nothing_that_it_says_itself():
    rke2 = {"version": "1.37.2+rke2r1", "server": "https://10.1.0.100:9345", "registry": "http://10.1.0.1"}
    told = json.loads(runs(rke2=rke2)["join-gpu"]["variables"]["settings"])
    assert told["rke2"]["registries"] == {"mirrors": {"*": {"endpoint": ["http://10.1.0.1"]}}}
    assert told["kubelet"].keys() == {
        *("apiVersion", "kind", "evictionHard", "nodeStatusUpdateFrequency"),
        *("nodeLeaseDurationSeconds", "shutdownGracePeriod"),
    }


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"label": {}}, "label\n.*Extra inputs"),
        ({"nodes": []}, "nodes\n.*at least 1 item"),
        ({"name": "GPU"}, "name\n.*pattern"),
        ({"cluster": "svc.example"}, "cluster\n.*pattern"),
        ({"bmc": {"bmc_username": "root"}}, r"bmc\.bmc_password_file\n.*required"),
        ({"bmc": VALID["bmc"] | {"bmc_password": "x"}}, r"bmc\.bmc_password\n.*Extra inputs"),
        ({"rke2": {"version": "1.37.2", "server": "https://a:1", "registry": "http://a"}}, "rke2.version"),
        ({"rke2": {"version": "1.37.2+rke2r1"}}, r"rke2\.server\n.*required"),
        ({"provisioner": PROVISIONER | {"token": "x"}}, r"provisioner\.token\n.*Extra inputs"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_by_name(more, message):
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        NodePoolSpec.model_validate(VALID | more)
