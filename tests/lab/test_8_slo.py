"""Prometheus on the site: it sees the replicas, the names of its rules exist, and an alert comes and goes."""

import json
import re
import urllib.parse
import urllib.request

import pytest

from sitewright.site.serving_values import FIRST_WORD_BOUNDS
from sitewright.vllm_metrics import METRICS
from tests.lab.conftest import GATEWAY, MODEL, eventually
from tests.load import OpenLoop

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

PROMETHEUS = "http://127.0.0.1:19090"


def query(expression: str) -> list[dict]:
    url = f"{PROMETHEUS}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.load(response)["data"]["result"]


def value(expression: str) -> float:
    found = query(expression)
    return float(found[0]["value"][1]) if found else float("nan")


@pytest.fixture(scope="module", autouse=True)
def _answers(deployed) -> None:
    with OpenLoop(MODEL, "tiny", rate=2) as load:
        load.wait_for(10)
    assert load.failed == []


def test_both_replicas_are_scraped():
    assert eventually(lambda: value('sum(up{job="models",model_name="tiny"})') == 2, 120)


def test_every_metric_rules_are_written_for_is_one_of_this_vllm():
    with urllib.request.urlopen(f"{MODEL.removesuffix('/v1')}/metrics", timeout=30) as response:
        text = response.read().decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    for metric in METRICS:
        # The client library keeps `_total` in the name of a counter's family only in some versions.
        kind = kinds.get(metric.name) or kinds.get(f"{metric.name}_total")
        assert kind == metric.kind, f"{metric.name} is {kind}, not {metric.kind}"
        sample = re.search(rf"^{metric.name}(?:_total|_bucket)?{{(.*)}}", text, re.M)
        assert sample is not None, metric.name
        assert {"model_name", *metric.labels} <= set(re.findall(r'(\w+)="', sample[1])), metric.name
    for bound in FIRST_WORD_BOUNDS:
        assert "vllm:time_to_first_token_seconds_bucket{" in text
        assert f'le="{float(bound)}"' in text


def test_answers_are_counted_and_timed():
    assert eventually(lambda: value('model:requests:rate5m{model_name="tiny"}') > 0, 120)
    assert eventually(lambda: 0 < value('model:first_word_seconds:p95_5m{model_name="tiny"}') < 60, 120)
    assert value('model:requests_bad:ratio_rate5m{model_name="tiny"}') in (0.0, pytest.approx(0, nan_ok=True))


def test_the_gateway_counts_what_its_users_got(key):
    answered = 'sum(gateway:requests:rate5m{model="tiny",team="demo",outcome="answered"})'
    with OpenLoop(f"{GATEWAY}/v1", "tiny", rate=2, key=key) as load:
        load.wait_for(10)
        # While requests go on: of a count that is there since the last look, no increase is known.
        assert eventually(lambda: value(answered) > 0, 120)
    assert load.failed == []
    assert value('sum(up{job="gateways"})') == 2
    assert value("gateway:requests_bad:ratio_rate5m") == 0


def test_a_missing_replica_is_told_and_the_runbook_brings_it_back(kubectl, runbook):
    missing = 'ALERTS{alertname="ModelReplicaMissing"}'
    book = runbook("replica-missing")
    kubectl("scale", "deployment/tiny", "--replicas=1")
    try:
        assert eventually(lambda: len(query(missing)) == 1, 180)
        assert query(missing)[0]["metric"]["alertstate"] in ("pending", "firing")
        book.follow(1)
    finally:
        book.follow(2)
    book.worked(300)
    assert eventually(lambda: query(missing) == [], 180)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("engine-hangs", (1, 2, 3)),
        ("model-misses-its-objective", (1, 2)),
        ("gateway-loses-requests", (1, 2, 3)),
    ],
)
def test_the_other_runbooks_of_alerts_can_be_followed(runbook, name: str, steps: tuple[int, ...]):
    book = runbook(name)
    book.follow(*steps)
    book.worked(400)
