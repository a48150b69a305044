"""What `pulumi config` can say, and what the program answers to a site that is not ready."""

import json

import pulumi
import pytest

from tests.stacks.engine import SECRET, plain, texts_in_clear

INFRASTRUCTURE = {
    "clusters": {
        "svc": {
            "endpoint": "https://10.77.0.10:6443",
            "ca_certificate": "CA of svc",
            "images": {
                name: f"registry/{name}@sha256:1"
                for name in ("pause", "kube-router", "kube-proxy", "coredns", "node-identity")
            },
        }
    },
    "kubeconfigs": {"svc": "kubeconfig of svc"},
}


def test_the_hypervisor_layer_alone_makes_machines_and_runs_nothing(program, site_file):
    run = program(site_file("lab"), layers='["hypervisor"]')
    assert run.playbooks() == {}
    assert run.of("VirtualMachine").keys() == {"svc-cp"}
    assert run.outputs["clusters"] == run.outputs["models"] == {}


def test_clusters_alone_take_machines_that_are_there(program, site_file):
    run = program(site_file("lab"), layers='["clusters"]')
    assert run.playbooks().keys() == {"cluster-images", "bootstrap-svc"}
    assert run.of("VirtualMachine") == {}
    assert run.outputs["kubeconfigs"] == {"svc": "kubeconfig of svc"}


def test_the_upper_layers_meet_the_clusters_of_another_stack(program, site_file):
    layers = json.dumps(["platform", "nodes", "services"])
    run = program(site_file("lab"), others=INFRASTRUCTURE, layers=layers, infrastructure="lab-infra")
    assert {"join-gpu", "model-tiny"} <= run.playbooks().keys()
    assert "bootstrap-svc" not in run.playbooks()
    assert run.of("Deployment").keys() == {
        *("svc-platform-deployment-coredns", "queues-deployment-kueue-controller-manager"),
        *("tiny-deployment", "prometheus-deployment", "retrieval-deployment"),
        *("llm-gateway-deployment", "llm-gateway-store-deployment"),
    }
    joined = plain(run.playbooks()["join-gpu"]["variables"])
    assert joined["kubeconfig"] == "kubeconfig of svc"
    assert json.loads(joined["settings"])["ca_certificate"] == "CA of svc\n"
    assert run.outputs["models"] == {"tiny": "http://127.0.0.1:18000/v1"}


def test_a_kubeconfig_of_another_stack_stays_a_secret(program, site_file):
    layers = json.dumps(["platform", "nodes", "services"])
    run = program(site_file("lab"), others=INFRASTRUCTURE, layers=layers, infrastructure="lab-infra")
    [provider] = run.of("pulumi:providers:kubernetes").values()
    assert provider["clusterIdentifier"] == "svc"
    assert SECRET in provider["kubeconfig"]
    assert "kubeconfigs" in run.secret_outputs
    for resource in run.resources.values():
        assert "kubeconfig of svc" not in set(texts_in_clear(resource.inputs)), resource.urn


@pytest.mark.parametrize("layer", ["platform", "nodes", "services"])
def test_each_upper_layer_can_live_in_a_stack_of_its_own(program, site_file, layer):
    run = program(
        site_file("lab"), others=INFRASTRUCTURE, layers=json.dumps([layer]), infrastructure="lab-infra"
    )
    assert {
        "platform": "svc-platform-daemonset-kube-router",
        "nodes": "join-gpu",
        "services": "tiny-deployment",
    }[layer] in {resource.name for resource in run.resources.values()}


def test_upper_layers_without_clusters_ask_for_the_stack_that_has_them(program, site_file):
    with pytest.raises(pulumi.ConfigMissingError, match="infrastructure"):
        program(site_file("lab"), layers='["services"]')


@pytest.mark.parametrize("layers", ['["hypervisor", "service"]', '"services"', "[]", "{}"])
def test_layers_that_do_not_exist_are_refused_before_anything_is_made(program, site_file, layers):
    with pytest.raises(pulumi.RunError, match="is not a list of layers; they are hypervisor, clusters, "):
        program(site_file("lab"), layers=layers)


def test_an_operator_sees_the_problems_of_a_site_file_and_no_traceback(program, site_file):
    file = site_file("lab", ("cluster: svc ", "cluster: svx "))
    with pytest.raises(pulumi.RunError, match=r"lab\.yaml:\d+:\d+: pools\[0\]\.cluster: ") as shown:
        program(file)
    assert "config check" in str(shown.value)


def test_a_lab_that_is_not_up_is_named_as_the_reason(program, site_file):
    file = site_file("lab")
    (file.parents[1] / "hypervisor.kubeconfig").unlink()
    with pytest.raises(
        pulumi.RunError, match=r"hypervisor\.kubeconfig: No such file .*\n.*sitewright lab up"
    ):
        program(file)
