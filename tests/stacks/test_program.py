"""Every layer of both sites that ship with the repository, wired as a real `pulumi preview` would wire it."""

import json

import pytest

from tests.stacks.conftest import SECRET

RUN = "sitewright:index:PlaybookRun"
PROVIDER = "pulumi:providers:kubernetes"
SITES = ("lab", "example-alps")


@pytest.mark.parametrize("name", SITES)
def test_a_preview_needs_no_cluster(program, site_file, name):
    engine, outputs = program(site_file(name), preview=True)
    assert {run["playbook"] for run in engine.of(RUN).values()} >= {
        "playbooks/fill-registry.yml",
        "playbooks/bootstrap-cluster.yml",
        "playbooks/build-boot-image.yml",
        "playbooks/declare-nodes.yml",
        "playbooks/power-nodes.yml",
        "playbooks/join-nodes.yml",
        "playbooks/prepare-models.yml",
    }
    assert set(outputs) == {"virtual_machines", "clusters", "kubeconfigs", "nodes", "models", "curl"}


@pytest.mark.parametrize("name", SITES)
def test_a_new_kubeconfig_does_not_replace_what_a_provider_manages(program, site_file, name):
    engine, _ = program(site_file(name))
    providers = engine.of(PROVIDER)
    assert providers
    for cluster, inputs in providers.items():
        assert inputs["clusterIdentifier"] == cluster


@pytest.mark.parametrize("name", SITES)
def test_what_becomes_ready_later_is_waited_for(program, site_file, name):
    engine, _ = program(site_file(name))
    later = {
        **engine.of("kubernetes:kubevirt.io/v1:VirtualMachine"),
        **engine.of("kubernetes:harvesterhci.io/v1beta1:VirtualMachineImage"),
    }
    assert later
    for manifest in later.values():
        assert manifest["metadata"]["annotations"]["pulumi.com/waitFor"].startswith("condition=")


def test_a_site_of_thousands_of_nodes_is_a_graph_of_pools(program, site_file):
    engine, _ = program(site_file("example-alps"))
    assert len(engine.resources) < 120
    declared = engine.of(RUN)["declare-inference"]
    assert len(declared["variables"]["nodes"]) == 640


def test_the_lab_ends_with_a_model_behind_a_port(program, site_file):
    engine, outputs = program(site_file("lab"))
    assert outputs["models"] == {"tiny": "http://127.0.0.1:18000/v1"}
    assert outputs["virtual_machines"] == {"svc-cp": "10.77.0.10"}
    [deployment] = engine.of("kubernetes:apps/v1:Deployment")["tiny-deployment"]["spec"]["template"]["spec"][
        "containers"
    ]
    assert deployment["command"][0] == "/shared/environments/e/bin/python"
    assert deployment["image"].startswith("registry/vllm-base@sha256:")


def test_a_cluster_that_brings_its_own_network_gets_no_platform(program, site_file):
    engine, _ = program(site_file("example-alps"))
    assert engine.of("kubernetes:apps/v1:DaemonSet") == {}
    engine, _ = program(site_file("lab"))
    assert set(engine.of("kubernetes:apps/v1:DaemonSet")) == {
        "svc-platform-daemonset-kube-router",
        "svc-platform-daemonset-kube-proxy",
    }


def test_layers_can_be_chosen(program, site_file):
    engine, _ = program(site_file("lab"), layers=json.dumps(["hypervisor"]))
    assert engine.of(RUN) == {}
    assert set(engine.of("kubernetes:kubevirt.io/v1:VirtualMachine")) == {"svc-cp"}


def test_a_kubeconfig_is_a_secret_wherever_it_goes(program, site_file):
    engine, _ = program(site_file("lab"))
    for provider in engine.of(PROVIDER).values():
        assert SECRET in provider["kubeconfig"]
    joined = engine.of(RUN)["join-gpu"]["variables"]
    assert SECRET in joined or SECRET in joined["kubeconfig"]
