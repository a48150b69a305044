"""The Job that measures the network between nodes."""

import pytest
import yaml

from modules.fabric.fabric_preflight import ENTRY, FabricPreflightSpec, render
from modules.fabric.fabric_preflight_entry import bus_bandwidth
from tests.unit.golden import cases, check


@pytest.mark.parametrize("case", cases("fabric_preflight"), ids=lambda path: path.name)
def test_rendered_manifests_are_the_recorded_ones(case):
    given = FabricPreflightSpec.model_validate(yaml.safe_load((case / "spec.yaml").read_text()))
    check(case / "manifests.yaml", yaml.safe_dump_all(render(given), sort_keys=False))


def test_bus_bandwidth_is_what_nccl_tests_calls_so():
    """Of an all-reduce over 8 ranks 7/8 of the data cross each link twice."""
    assert bus_bandwidth(10**9, 8, 1.0) == pytest.approx(1.75)
    assert bus_bandwidth(10**9, 2, 0.5) == pytest.approx(2.0)


def test_every_pod_finds_the_first_by_a_name_that_is_there_before_it_is_ready():
    given = FabricPreflightSpec(image="i", python="/p", pool="gpu", nodes=3)
    _, names, job = render(given)
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert names["spec"]["publishNotReadyAddresses"]
    assert args[args.index("--master-addr") + 1] == "fabric-preflight-0.fabric-preflight"
    assert job["spec"]["template"]["spec"]["subdomain"] == names["metadata"]["name"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 3
    assert f"/entry/{ENTRY}" in args
