"""From a finished run to all users and back, by the runbooks, while users ask.

Streams begin at fixed times through the gateway, from the first step to the last.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sitewright.tuning import dataset
from tests.bench.figure import Figure
from tests.bench.under_load import keep
from tests.lab.conftest import EXAMPLE, GATEWAY
from tests.lab.user import REPOSITORY, Shell
from tests.load import OpenLoop

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

ALIAS, RATE = "assistant", 1.0
UP = "pulumi up -s lab --yes --skip-preview"


@pytest.fixture(scope="module")
def versions(finished: str, _prepared_shell: Shell) -> list[str]:
    """Two versions of one adapter, published before."""
    shell = Shell(_prepared_shell.environment)
    published = [shell.must(f"sitewright adapters publish {finished} alps", "serves it") for _ in range(2)]
    return [text.split(" is published")[0].splitlines()[-1] for text in published]


@pytest.fixture(scope="module")
def released(versions: list[str], _prepared_shell: Shell) -> Iterator[None]:
    """The first of them answers under the alias; afterwards the site file is as it was."""
    shell, file = Shell(_prepared_shell.environment), REPOSITORY / "environments/lab.yaml"
    before = file.read_text()
    try:
        shell.must(f"sitewright adapters promote lab {ALIAS} {versions[0]}", f"100 % {versions[0]}")
        shell.must(UP)
        yield
    finally:
        file.write_text(before)
        shell.must(UP)


@pytest.fixture
def book(runbook, versions: list[str]):
    """The runbooks name alps--v1 and alps--v2; here the numbers go on from what was published before."""

    def read(name: str):
        found = runbook(name)
        found.rename({"alps--v1": versions[0], "alps--v2": versions[1]})
        return found

    return read


def test_a_run_is_published_as_the_runbook_says(finished: str, runbook, shell: Shell):
    there = shell.must("sitewright adapters list").count("alps--v")
    book = runbook("publish-an-adapter")
    book.rename({"alps--v1": f"alps--v{there + 1}"})
    book.follow(1, 2, 3)
    book.worked()


def test_no_request_is_lost_from_the_trial_to_the_way_back(released, key: str, book, versions: list[str]):
    first, second = versions
    with OpenLoop(f"{GATEWAY}/v1", ALIAS, RATE, key) as load:
        shares = []
        for name in ("try-an-adapter", "promote-an-adapter", "roll-back-an-adapter"):
            followed = book(name)
            followed.follow(1, 2)
            followed.worked()
            shares.append(_answering(load))
    seen = {"seen": load.said(), "answered_by": [dict(share) for share in shares]}
    keep(Figure("hand_over.failed_streams", len(load.failed), "streams", 0, details=seen))
    assert [stream.fault for stream in load.failed] == []
    assert len(load.streams) > 100
    assert set(shares[0]) == {first, second}
    assert set(shares[1]) == {second}
    assert set(shares[2]) == {first}


def test_an_answer_leads_to_the_data_it_came_from(released, key: str, shell: Shell, versions: list[str]):
    with OpenLoop(f"{GATEWAY}/v1", ALIAS, RATE, key) as load:
        load.wait_for(1)
    stream = load.streams[0]
    assert stream.model == ALIAS
    record = json.loads(shell.must(f"sitewright adapters show {stream.served}"))
    data = dataset.check(Path(EXAMPLE) / "train.jsonl", Path(EXAMPLE) / "held-out.jsonl", 128, None)
    assert record["request"]["data_digest"] == data.digest


def _answering(load: OpenLoop, wanted: int = 40) -> Counter[str]:
    """Which versions answer the next streams."""
    begun = len(load.streams)
    load.wait_for(begun + wanted)
    return Counter(stream.served for stream in load.streams[begun : begun + wanted])
