"""The address in front of a control plane."""

import pytest
import yaml
from pydantic import ValidationError

from modules.clusters.load_balancer import LoadBalancerSpec, render
from tests.unit.golden import DATA, cases, check


def spec(**more) -> LoadBalancerSpec:
    given = yaml.safe_load((DATA / "load_balancer/rke2-three/spec.yaml").read_text())
    return LoadBalancerSpec.model_validate(given | more)


@pytest.mark.parametrize("case", cases("load_balancer"), ids=lambda path: path.name)
def test_rendered_manifests_are_the_recorded_ones(case):
    given = LoadBalancerSpec.model_validate(yaml.safe_load((case / "spec.yaml").read_text()))
    check(case / "manifests.yaml", yaml.safe_dump_all(render(given), sort_keys=False))


def test_the_pool_holds_the_address_and_no_other():
    pool, balancer = render(spec())
    [found] = pool["spec"]["ranges"]
    assert found["rangeStart"] == found["rangeEnd"] == "10.1.0.100"
    assert balancer["spec"]["ipPool"] == pool["metadata"]["name"]


def test_two_namespaces_with_one_cluster_name_have_two_pools():
    assert render(spec())[0]["metadata"]["name"] != render(spec(namespace="tds"))[0]["metadata"]["name"]


def test_it_has_its_address_before_a_machine_behind_it_answers():
    balancer = render(spec())[1]
    assert balancer["metadata"]["annotations"]["pulumi.com/waitFor"] == "jsonpath={.status.address}"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"address": "10.2.0.100"}, "address 10.2.0.100 is outside 10.1.0.0/24"),
        ({"address": "10.1.0.1"}, "address 10.1.0.1 is the gateway"),
        ({"machines": []}, "machines\n"),
        ({"ports": []}, "ports\n"),
        ({"ports": [0]}, "ports.0\n"),
        ({"network": "services"}, "network\n"),
        ({"name": "svc_api"}, "name\n"),
        ({"vip": "10.1.0.100"}, "vip\n"),
    ],
)
def test_a_wrong_value_is_refused_by_name(more, message):
    with pytest.raises(ValidationError, match=message):
        spec(**more)
