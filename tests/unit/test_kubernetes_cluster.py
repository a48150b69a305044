"""What a control plane is configured with."""

import pytest
import yaml
from pydantic import ValidationError

from modules.clusters.kubernetes_cluster import KubernetesClusterSpec, render_kubeadm, render_rke2
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
    assert files["server"]["server"] == "https://10.1.0.100:9345"


def test_tokens_are_files_and_servers_and_agents_have_their_own():
    """A node that is broken into must not be able to become a server."""
    spec = KubernetesClusterSpec.model_validate(load(DATA / "kubernetes_cluster/rke2"))
    files = {name: yaml.safe_load(text) for name, text in render_rke2(spec).items()}
    for text in files.values():
        assert "token" not in text
        assert "agent-token" not in text
    assert files["server"]["token-file"] != files["server"]["agent-token-file"]


@pytest.mark.parametrize("case", cases("kubernetes_cluster"), ids=lambda path: path.name)
def test_nothing_is_pulled_from_the_internet(case):
    spec = KubernetesClusterSpec.model_validate(load(case))
    if spec.distribution == "kubeadm":
        [_, cluster, _] = yaml.safe_load_all(render_kubeadm(spec))
        assert cluster["imageRepository"] == spec.registry_host
        assert cluster["dns"]["imageRepository"].startswith(f"{spec.registry_host}/")
    else:
        files = {name: yaml.safe_load(text) for name, text in render_rke2(spec).items()}
        assert files["server"]["system-default-registry"] == spec.registry_host
        assert files["registries"]["mirrors"] == {"*": {"endpoint": [spec.registry]}}


@pytest.mark.parametrize("case", cases("kubernetes_cluster"), ids=lambda path: path.name)
def test_the_certificate_holds_every_address_the_api_is_reached_at(case):
    spec = KubernetesClusterSpec.model_validate(load(case))
    if spec.distribution == "kubeadm":
        [_, cluster, _] = yaml.safe_load_all(render_kubeadm(spec))
        names = cluster["apiServer"]["certSANs"]
    else:
        names = yaml.safe_load(render_rke2(spec)["server"])["tls-san"]
    assert {str(spec.endpoint), spec.operator_host} == set(names)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"cni": "cilium"}, "cni\n.*Extra inputs"),
        ({"control_planes": []}, "control_planes\n.*at least 1 item"),
        ({"control_planes": ["a", "b"]}, "2 control planes: etcd keeps a majority with 1 or 3"),
        ({"control_planes": list("abcde")}, "5 control planes: etcd"),
        ({"version": "1.37.2+rke2r1"}, r"version 1\.37\.2\+rke2r1 is not one of distribution kubeadm"),
        ({"distribution": "rke2"}, r"version 1\.37\.2 is not one of distribution rke2"),
        ({"version": "v1.37.2"}, "version\n.*pattern"),
        ({"version": "1.37"}, "version\n.*pattern"),
        ({"distribution": "k3s"}, "distribution\n.*'kubeadm' or 'rke2'"),
        ({"artifacts": "http://10.1.0.5/rke2"}, "only distribution rke2 is installed from a mirror"),
        ({"endpoint": "svc.example.org"}, "endpoint\n.*valid IPv4"),
        ({"pod_cidr": "10.42.0.1/16"}, "pod_cidr\n.*IPv4 network"),
        ({"registry": "10.77.0.1:5000"}, "registry\n.*pattern"),
        ({"registry": "http://10.77.0.1:5000/images"}, "registry\n.*pattern"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_by_name(more, message):
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        KubernetesClusterSpec.model_validate(load(DATA / "kubernetes_cluster/kubeadm-single") | more)
