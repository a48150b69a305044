"""Fine-tuning on the site: a run that is interrupted, what it leaves, and that all replicas serve it."""

import json
import time
import urllib.request
from pathlib import Path

import pytest

from tests.bench.figure import Figure
from tests.bench.under_load import keep
from tests.lab.conftest import EXAMPLE
from tests.lab.user import Shell

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

QUESTION = json.loads(Path(f"{EXAMPLE}/train.jsonl").read_text().splitlines()[0])["messages"]


def answer(model: str) -> dict:
    body = {"model": model, "messages": QUESTION[:1], "temperature": 0, "max_tokens": 64}
    request = urllib.request.Request(
        "http://127.0.0.1:18000/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return dict(json.load(response))


def test_a_run_that_loses_its_pod_goes_on_where_it_was(shell: Shell, site, finished: str):
    directory = Path(site.shared_filesystem.publish_dir) / "runs" / finished
    record = json.loads((directory / "run.json").read_text())
    assert len(record["starts"]) == 2
    assert record["starts"][1]["resumed_from_step"] >= 20
    logged = [json.loads(line)["step"] for line in (directory / "progress.jsonl").read_text().splitlines()]
    assert sorted(set(logged)) == list(range(1, 201))
    # Nothing was trained twice: the pod that had to go wrote a checkpoint first.
    assert len(logged) == len(set(logged))


def test_every_replica_serves_what_was_published(shell: Shell, finished: str):
    before = answer("tiny")["choices"][0]["message"]["content"]
    began = time.monotonic()
    published = shell.must(f"sitewright adapters publish {finished} alps", "is published")
    adapter = published.split(" is published")[0].splitlines()[-1]
    assert published.count("serves it") == 2
    keep(Figure("adapter.publish_to_answers_of_all_replicas", time.monotonic() - began, "s"))
    found = answer(adapter)
    assert found["model"] == adapter
    assert found["choices"][0]["message"]["content"] == QUESTION[1]["content"] != before
    assert answer("tiny")["choices"][0]["message"]["content"] == before
    record = json.loads(shell.must(f"sitewright adapters show {adapter}"))
    assert record["request"]["run"] == finished


def test_a_replica_that_starts_anew_serves_it_as_well(shell: Shell, finished: str):
    adapter = shell.must("sitewright adapters list").split()[4]
    shell.must("kubectl delete pod -l app.kubernetes.io/name=tiny --timeout=120s")
    shell.must("kubectl rollout status deployment/tiny --timeout=300s")
    assert shell.must(f"sitewright adapters warm {adapter}").count("serves it") == 2
