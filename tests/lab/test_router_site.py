"""A router between gateway and replicas, before the real vLLM: switched on in the site file, used, switched off."""

import re
from collections.abc import Iterator

import pytest

from tests.lab.conftest import GATEWAY, eventually
from tests.lab.test_8_slo import value
from tests.lab.user import REPOSITORY, Shell
from tests.load import OpenLoop

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

UP = "pulumi up -s lab --yes --skip-preview"
KNOWN = 'min(vllm_router_active_workers{model_name="tiny"})'


@pytest.fixture(scope="module", autouse=True)
def _routed(deployed, environment) -> Iterator[None]:
    shell, file = Shell(dict(environment)).prepare(), REPOSITORY / "environments/lab.yaml"
    before = file.read_text()
    routed, count = re.subn(r"# router: \{\}.*", "router: {}", before)
    assert count == 1
    try:
        file.write_text(routed)
        shell.must(UP)
        yield
    finally:
        file.write_text(before)
        shell.must(UP)


def test_streams_through_gateway_and_router_are_whole(key: str):
    with OpenLoop(f"{GATEWAY}/v1", "tiny", 2, key) as load:
        load.wait_for(40)
    assert load.failed == [], load.said()


def test_prometheus_sees_the_routers_and_how_many_replicas_each_knows(kubectl):
    assert eventually(lambda: value('sum(up{job="routers",model_name="tiny"})') == 2, 120)
    assert eventually(lambda: value(KNOWN) == 2, 120)


def test_no_stream_is_lost_when_a_replica_and_a_router_are_replaced(key: str, kubectl):
    with OpenLoop(f"{GATEWAY}/v1", "tiny", 1, key) as load:
        load.wait_for(5)
        for component in ("vllm", "vllm-router"):
            pods = kubectl("get", "pods", f"-lapp.kubernetes.io/component={component}", "-oname").stdout
            kubectl("delete", pods.split()[0], "--wait=true", "--timeout=300s")
            assert eventually(lambda: value(KNOWN) == 2, 300)
    assert load.failed == [], load.said()
