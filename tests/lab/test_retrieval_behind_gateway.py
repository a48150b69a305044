"""The real retrieval program behind the real LiteLLM: keys, names, and sources that arrive at the client.

Both run in the software environments of the site, as plain processes: no cluster takes part.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from modules.gateway.llm_gateway_spec import LlmGatewaySpec
from sitewright.retrieval import versions
from sitewright.site import Site
from tests.contracts.retrieval_program import Models, Program, Serving, built, spec
from tests.lab.gateway_program import KEY, SMALL_KEY, WORDS, Gateway

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

NAME = "ok-with-manuals"


class Pythons(NamedTuple):
    gateway: Path
    retrieval: Path


@pytest.fixture(scope="module")
def pythons(deployed: None, site: Site) -> Pythons:
    assert site.services.gateway and site.services.retrieval
    names = (site.services.gateway.environment, site.services.retrieval.environment)
    shared = Path(site.shared_filesystem.publish_dir)
    return Pythons(*(next(shared.glob(f"environments/{name}-*/bin/python")) for name in names))


@pytest.fixture(scope="module")
def gateway(pythons: Pythons, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    shared = tmp_path_factory.mktemp("shared")
    versions.use(versions.place(shared, "manuals"), built(shared, pythons.retrieval))
    models = Serving(Models().app)
    wanted = spec(models.url, pythons.retrieval, "ok", "slow", "empty-end", "limited", "small")
    program = Program(wanted, shared, tmp_path_factory.mktemp("retrieval"))
    base = f"{program.url}/v1"
    names = [wanted.embeddings, *(model.name for model in wanted.models)]
    front = LlmGatewaySpec.model_validate(
        {
            "image": "i",
            "python": str(pythons.gateway),
            "pool": "svc",
            "drain_timeout": 20,
            "teams": [{"name": "small", "models": ["embeddings"]}],
            "models": [
                {"name": name, "targets": [{"api_base": base, "component": "retrieval"}]} for name in names
            ],
        }
    )
    try:
        made = Gateway(front, tmp_path_factory.mktemp("gateway"))
        yield made
        made.stop()
    finally:
        program.stop()
        models.stop()


def test_an_answer_comes_with_its_sources(gateway: Gateway):
    answer = gateway.post("/v1/chat/completions", asked())
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["choices"][0]["message"]["content"] == "hello"
    assert found["model"] == NAME
    assert found["sitewright"]["sources"][0]["document"] == "data-transfer.txt"
    assert len(found["sitewright"]["digest"]) == 64


@pytest.mark.parametrize("model", [NAME, "slow-with-manuals", "empty-end-with-manuals"])
def test_a_stream_comes_whole_with_its_sources(gateway: Gateway, model):
    answer = gateway.post("/v1/chat/completions", {**asked(), "model": model, "stream": True})
    events = [line.removeprefix("data: ") for line in answer.text.split("\n") if line.startswith("data: ")]
    chunks = [json.loads(event) for event in events[:-1]]
    said = [chunk["choices"][0]["delta"].get("content") for chunk in chunks if chunk["choices"]]
    assert [word for word in said if word] == WORDS
    assert events[-1] == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    [extra] = [delta["provider_specific_fields"] for delta in deltas if delta.get("provider_specific_fields")]
    assert extra["sitewright"]["sources"][0]["document"] == "data-transfer.txt"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_vectors_come_through_in_both_forms(gateway: Gateway):
    plain = gateway.post("/v1/embeddings", {"model": "embeddings", "input": ["a quota", "a queue"]})
    assert [len(one["embedding"]) for one in plain.json()["data"]] == [256, 256], plain.text
    body = {"model": "embeddings", "input": "a quota", "encoding_format": "base64"}
    coded = gateway.post("/v1/embeddings", body)
    assert isinstance(coded.json()["data"][0]["embedding"], str), coded.text


def test_a_team_gets_what_it_may_ask_for_only(gateway: Gateway):
    assert gateway.post("/v1/chat/completions", asked(), SMALL_KEY).status_code == 404
    assert gateway.post("/v1/chat/completions", asked(), None).status_code == 401
    embedded = gateway.post("/v1/embeddings", {"model": "embeddings", "input": "x"}, SMALL_KEY)
    assert embedded.status_code == 200


def test_a_question_that_is_too_long_is_refused_with_the_reason(gateway: Gateway):
    answer = gateway.post("/v1/chat/completions", {**asked("word " * 200), "model": "small-with-manuals"})
    assert answer.status_code == 400
    assert "the question has 200 tokens" in answer.json()["error"]["message"]


def test_a_model_that_is_busy_says_so(gateway: Gateway):
    answer = gateway.post("/v1/chat/completions", {**asked(), "model": "limited-with-manuals"}, KEY)
    assert answer.status_code == 429
    assert answer.headers["retry-after"]


def asked(question: str = "What is rsync for?") -> dict:
    return {"model": NAME, "messages": [{"role": "user", "content": question}], "max_tokens": 20}
