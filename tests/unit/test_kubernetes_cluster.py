"""What a control plane is configured with."""

import pytest
import yaml
from pydantic import ValidationError

from modules.kubernetes_cluster import KubernetesClusterSpec, render_kubeadm, render_rke2
from tests.unit.golden import DATA, cases, check


def load(case) -> dict:
    return yaml.safe_load((case / "spec.yaml").read_text())


@pytest.mark.parametrize("case", cases("kubernetes_cluster"), ids=lambda path: path.name)
def test_rendered_configuration_is_the_recorded_one(case):
    spec = KubernetesClusterSpec.model_validate(load(case))
    if spec.distribution == "kubeadm":
        check(case / "kubeadm.yaml", render_kubeadm(spec))
    else:
        for name, text in render_rke2(spec).items():
            check(case / f"{name}.yaml", text)


def test_only_the_first_rke2_server_starts_alone():
    spec = KubernetesClusterSpec.model_validate(load(DATA / "kubernetes_cluster/rke2"))
    files = {name: yaml.safe_load(text) for name, text in render_rke2(spec).items()}
    assert "server" not in files["first_server"]
    assert files["server"]["server"] == files["agent"]["server"] == "https://10.1.0.100:9345"


def test_no_rendered_file_holds_a_token():
    spec = KubernetesClusterSpec.model_validate(load(DATA / "kubernetes_cluster/rke2"))
    for text in render_rke2(spec).values():
        assert "token" not in yaml.safe_load(text)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"control_planes": ["a", "b"]}, "2 control planes"),
        ({"version": "1.37.2+rke2r1"}, "is not one of distribution kubeadm"),
        ({"distribution": "k3s"}, "distribution\n"),
        ({"artifacts": "http://10.1.0.5/rke2"}, "only distribution rke2"),
        ({"endpoint": "svc.example.org"}, "endpoint\n"),
        ({"pod_cidr": "10.42.0.1/16"}, "pod_cidr\n"),
        ({"cni": "cilium"}, "cni\n"),
    ],
)
def test_a_wrong_value_is_refused_by_name(more, message):
    with pytest.raises(ValidationError, match=message):
        KubernetesClusterSpec.model_validate(load(DATA / "kubernetes_cluster/kubeadm-single") | more)
