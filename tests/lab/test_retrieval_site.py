"""Retrieval on the site: a collection that is built, served, changed and rolled back, and a comparison."""

import json
from pathlib import Path

import pytest

from tests.lab.conftest import eventually
from tests.lab.test_6_gateway import GATEWAY, ask, post
from tests.lab.user import Shell

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

EXAMPLE = "docs/examples/retrieval"
RAG = "tiny-with-manuals"


@pytest.fixture(scope="module")
def key(pulumi) -> str:
    shown = pulumi("stack", "output", "gateway_keys", "--show-secrets", "--json").stdout
    return str(json.loads(shown)["demo"])


@pytest.fixture(scope="module")
def shell(deployed, environment) -> Shell:
    return Shell(dict(environment)).prepare()


@pytest.fixture(scope="module")
def first(shell: Shell) -> str:
    """The version with the example's documents, in use."""
    return serve(shell, f"{EXAMPLE}/manuals")


def serve(shell: Shell, source: str) -> str:
    version = (
        shell.must(f"sitewright retrieval build manuals --from {source}").split("manuals v")[1].split(":")[0]
    )
    shell.must(f"sitewright retrieval use manuals v{version}", f"manuals v{version} is in use")
    return f"v{version}"


def lookup(key: str, question: str) -> dict:
    status, answer = ask(key, model=RAG, max_tokens=32, messages=[{"role": "user", "content": question}])
    return json.loads(answer).get("sitewright", {}) if status == 200 else {"status": status, "answer": answer}


def served(key: str, version: str) -> bool:
    return lookup(key, "What is rsync for?").get("version") == version


def test_an_answer_names_the_documents_it_had(key, first):
    assert eventually(lambda: served(key, first), 60), lookup(key, "What is rsync for?")
    extra = lookup(key, "How long may a Jupyter session last?")
    assert extra["model"] == "tiny"
    assert extra["sources"][0]["document"] == "interactive.txt"


def test_a_stream_comes_whole_with_its_sources(key, first):
    status, answer = ask(
        key,
        model=RAG,
        stream=True,
        max_tokens=32,
        messages=[{"role": "user", "content": "What is rsync for?"}],
    )
    lines = [line for line in answer.splitlines() if line]
    assert status == 200
    assert lines[-1] == "data: [DONE]"
    assert "data-transfer.txt" in answer


def test_a_question_that_is_too_long_is_refused_with_the_numbers_of_the_model(key, first):
    status, answer = ask(key, model=RAG, messages=[{"role": "user", "content": "mountain " * 600}])
    assert status == 400
    assert "the model takes 512 in all" in answer


def test_embeddings_need_a_key_as_models_do(key):
    body = {"model": "embeddings", "input": ["a quota", "a queue"]}
    status, answer = post(key, "/v1/embeddings", body)
    assert status == 200
    assert [len(one["embedding"]) for one in json.loads(answer)["data"]] == [256, 256]
    assert post(None, "/v1/embeddings", body)[0] == 401


def test_only_the_gateway_reaches_the_service(kubectl, first):
    """A pod of the cluster that is no gateway: one of the model's."""
    address = kubectl("get", "service", "retrieval", "-o", "jsonpath={.spec.clusterIP}").stdout
    program = (
        "import urllib.request as u\n"
        f"try: print('reached', u.urlopen('http://{address}:8000/v1/models', timeout=5).status)\n"
        "except OSError as error: print('refused', error)"
    )
    pod = kubectl("get", "pods", "-l", "app.kubernetes.io/name=tiny", "-o", "name").stdout.split()[0]
    assert "refused" in kubectl("exec", pod, "--", "/usr/bin/python3.11", "-c", program).stdout


def test_the_runbook_rolls_a_collection_back(key, first, shell, runbook, tmp_path):
    (tmp_path / "rsync.txt").write_text("rsync\n\nrsync is no longer here. Use Globus.\n")
    second = serve(shell, str(tmp_path))
    try:
        assert eventually(lambda: served(key, second), 60)
        assert lookup(key, "What is rsync for?")["sources"][0]["document"] == "rsync.txt"
        book = runbook("roll-back-a-collection")
        assert first == "v1", "the runbook's names; remove <shared>/retrieval/manuals to start anew"
        book.look(1)
        book.follow(2, 3)
        book.worked()
        assert eventually(lambda: served(key, first), 60)
    finally:
        shell.must(f"sitewright retrieval use manuals {first}")


def test_base_and_retrieval_are_compared_in_one_report(key, first, shell, tmp_path: Path):
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text(key)
    shell.must(
        f"sitewright retrieval compare --questions {EXAMPLE}/questions.jsonl --base tiny --rag {RAG}"
        f" --url {GATEWAY}/v1 --key-file {file} --max-tokens 32"
        f" --json {tmp_path}/c.json --html {tmp_path}/c.html",
        "20 questions",
    )
    found = json.loads((tmp_path / "c.json").read_text())
    assert [model["failed"] for model in found["models"]] == [[], []]
    assert all(question["answers"]["rag"]["sources"] for question in found["questions"])
    assert "<svg" in (tmp_path / "c.html").read_text()
