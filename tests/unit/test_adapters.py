"""What speaks against an adapter, and how replicas are asked whether they serve it."""

import json

import pytest

from sitewright.errors import SitewrightError
from sitewright.tuning.adapters import CONFIG, Adapter, judge, warm

QUESTION = [{"role": "user", "content": "How high?"}]
SAMPLE = {"messages": QUESTION, "max_tokens": 8, "answer": "4806 m"}


class Replicas:
    """A cluster whose pods answer as told: pod → (model, words)."""

    def __init__(self, **pods):
        self.pods, self.asked = pods, []

    def serving(self, template, model):
        return list(self.pods)

    def ask(self, template, pod, port, path, body):
        self.asked.append((pod, path, body))
        model, words = self.pods[pod]
        return {"model": model, "choices": [{"message": {"content": words}}]}


@pytest.fixture
def adapter(tmp_path):
    directory = tmp_path / "alps--v1"
    directory.mkdir()
    (directory / CONFIG).write_text("{}")
    (directory / "run.json").write_text(json.dumps({"evaluation": {"samples": [SAMPLE]}}))
    return Adapter("alps--v1", "tiny", directory)


def test_every_replica_is_asked_what_the_training_asked(adapter):
    replicas = Replicas(one=("alps--v1", "4806 m"), two=("alps--v1", "4806 m"))
    assert warm(replicas, None, adapter) == ["one", "two"]
    (pod, path, body), _ = replicas.asked
    assert (pod, path) == ("one", "/v1/chat/completions")
    assert body == {"model": "alps--v1", "messages": QUESTION, "max_tokens": 8, "temperature": 0}


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (("tiny", "4806 m"), "answered as 'tiny'"),
        (("alps--v1", "I do not know"), "what the training said: 'I do not know', not '4806 m'"),
    ],
)
def test_a_replica_that_does_not_use_it_is_named(adapter, second, says):
    with pytest.raises(SitewrightError, match="pod two") as refused:
        warm(Replicas(one=("alps--v1", "4806 m"), two=second), None, adapter)
    assert says in refused.value.message


def test_without_a_replica_nobody_is_said_to_serve_it(adapter):
    with pytest.raises(SitewrightError, match="no replica of tiny is ready"):
        warm(Replicas(), None, adapter)


@pytest.mark.parametrize(
    ("before", "after", "better_by", "says"),
    [
        (2.0, 1.0, 0.0, ""),
        (2.0, 2.0, 0.0, ""),
        (2.0, 1.9, 0.1, ""),
        (2.0, 2.1, 0.0, "2.1000"),
        (2.0, 1.95, 0.1, "0.1 better wanted"),
        (2.0, float("nan"), 0.0, "nan"),
        (None, None, 0.0, "not judged"),
    ],
)
def test_the_loss_on_held_out_rows_judges(before, after, better_by, says):
    measured = {"base_loss": before, "tuned_loss": after} if before else None
    against = judge({"evaluation": measured}, better_by)
    assert says in against
    assert bool(against) == bool(says)
