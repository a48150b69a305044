"""What makes a bare control plane usable."""

from itertools import takewhile

import pytest
import yaml
from pydantic import ValidationError

from modules.clusters.platform import IMAGES, render
from modules.clusters.platform_parts import PlatformSpec
from tests.unit.golden import DATA, check


def rendered() -> list[dict]:
    return render(PlatformSpec.model_validate(yaml.safe_load((DATA / "platform/lab/spec.yaml").read_text())))


def test_rendered_manifests_are_the_recorded_ones():
    check(DATA / "platform/lab/manifests.yaml", yaml.safe_dump_all(rendered(), sort_keys=False))


def test_nothing_waits_for_the_services_it_brings_up():
    for manifest in rendered():
        if manifest["kind"] in ("DaemonSet", "Deployment"):
            [container] = manifest["spec"]["template"]["spec"]["containers"]
            assert {"name": "KUBERNETES_SERVICE_HOST", "value": "10.77.0.10"} in container["env"]


def test_every_account_is_bound_to_a_role():
    manifests = rendered()
    accounts = {m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount"}
    bound = {m["subjects"][0]["name"] for m in manifests if m["kind"] == "ClusterRoleBinding"}
    assert accounts == bound == {"kube-router", "kube-proxy", "coredns"}


def test_every_object_in_a_namespace_names_it():
    for manifest in rendered():
        namespaced = not manifest["kind"].startswith("Cluster")
        assert ("namespace" in manifest["metadata"]) == namespaced, manifest["metadata"]["name"]


def test_what_a_pod_mounts_is_applied_before_it():
    manifests = rendered()
    for manifest in manifests:
        if "template" not in manifest.get("spec", {}):
            continue
        before = list(takewhile(lambda one, last=manifest: one is not last, manifests))
        there = {(one["kind"], one["metadata"]["name"]) for one in before}
        pod = manifest["spec"]["template"]["spec"]
        assert ("ServiceAccount", pod["serviceAccountName"]) in there
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in there


def test_each_container_is_named_like_the_image_that_is_put_in_later():
    containers = [
        container
        for manifest in rendered()
        for container in manifest.get("spec", {}).get("template", {"spec": {}})["spec"].get("containers", [])
    ]
    assert {container["name"] for container in containers} == set(IMAGES)
    for container in containers:
        assert container["image"].startswith(f"r/{container['name']}@sha256:")


def test_networking_comes_to_every_node_whatever_its_taints():
    for manifest in rendered():
        if manifest["kind"] == "DaemonSet":
            pod = manifest["spec"]["template"]["spec"]
            assert pod["tolerations"] == [{"operator": "Exists"}]
            assert pod["hostNetwork"] is True


def test_names_are_answered_while_a_control_plane_is_all_there_is():
    [coredns] = [m for m in rendered() if m["kind"] == "Deployment"]
    tolerated = coredns["spec"]["template"]["spec"]["tolerations"]
    assert {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"} in tolerated


def test_a_program_that_every_pod_talks_to_can_do_no_more_than_it_needs():
    [coredns] = [m for m in rendered() if m["kind"] == "Deployment"]
    [container] = coredns["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert all(mount["readOnly"] for mount in container["volumeMounts"])


def test_a_drain_leaves_a_dns_server_and_is_never_blocked_by_one_that_crashes():
    [coredns] = [m for m in rendered() if m["kind"] == "Deployment"]
    [budget] = [m for m in rendered() if m["kind"] == "PodDisruptionBudget"]
    assert budget["spec"]["selector"] == coredns["spec"]["selector"]
    assert budget["spec"]["maxUnavailable"] < coredns["spec"]["replicas"]
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"image": {}}, "image\n.*Extra inputs"),
        ({"dns_address": "10.79.0.300"}, "dns_address\n.*valid IPv4"),
        ({"service_cidr": "10.79.0.10/16"}, "service_cidr\n.*IPv4 network"),
        ({"endpoint": "api"}, "endpoint\n.*valid IPv4"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_by_name(more, message):
    given = yaml.safe_load((DATA / "platform/lab/spec.yaml").read_text())
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        PlatformSpec.model_validate(given | more)
