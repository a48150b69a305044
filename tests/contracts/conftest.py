"""One hypervisor for all contract tests: a real API server, a host that only pretends."""

from collections.abc import Iterator

import pytest
from fake_hypervisor import running
from hypervisor_client import CONTENT, Hypervisor

from lab.hypervisor.api import NAMESPACE


@pytest.fixture(scope="session")
def shared() -> Iterator[Hypervisor]:
    with running(CONTENT) as it:
        yield Hypervisor(it.api, it.host, it.controller, it.images)


@pytest.fixture
def hypervisor(shared: Hypervisor, request: pytest.FixtureRequest) -> Hypervisor:
    shared.place = f"t{abs(hash(request.node.name)) % 10**8}"
    shared.images.down, shared.images.cut_at = False, None
    shared.images.requests.clear()
    shared.api.create(NAMESPACE, {"metadata": {"name": shared.place}})
    return shared
