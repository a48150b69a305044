"""The real program with the real embedding model and index, in front of a stand-in that speaks vLLM's contract.

What this cannot show: pods, Services, network policies, LiteLLM in front (tests/lab does), and vLLM itself.
"""

import base64
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sitewright.retrieval import versions
from sitewright.site.files import REPOSITORY
from tests.contracts.python_environment import environment_python
from tests.contracts.retrieval_program import (
    EXAMPLE,
    LIMIT,
    RETRY_AFTER,
    SMALL_LIMIT,
    Models,
    Program,
    Serving,
    built,
    spec,
    wait_for_version,
    words,
)
from tests.lab.gateway_program import WORDS, free_port, wait_for

pytestmark = [pytest.mark.timeout(300)]
# Which manual holds the answer to each row of questions.jsonl.
ANSWERED_BY = """
login storage-quota scratch-cleaning batch-jobs debug-partition gpu-nodes containers python compilers mpi
interactive data-transfer allocation inference fine-tuning-guide maintenance support energy cooling security
"""
KEYWORDS = {
    "What is MPICH_GPU_SUPPORT_ENABLED for?": "mpi",
    "quota command": "storage-quota",
    "is there a backup of scratch?": "scratch-cleaning",
    "How do I see the temperature of the GPUs?": "gpu-nodes",
    "podman": "containers",
    "bearer token": "inference",
    "Is tape backup there for project data?": "scratch-cleaning",
    "Where do I report a problem with my job?": "support",
    "how many joules did my job use": "energy",
    "squeue": "batch-jobs",
    "Slingshot": "mpi",
    "how do I open a notebook": "interactive",
    "rsync": "data-transfer",
    "my account was closed": "security",
    "does the system heat buildings": "cooling",
    "low-rank adapters": "fine-tuning-guide",
    "file limit of home": "storage-quota",
    "which flags does CC add": "compilers",
    "how long can a job run": "batch-jobs",
    "second factor": "login",
}


@pytest.fixture(scope="module")
def python() -> Path:
    return environment_python("retrieval")


@pytest.fixture(scope="module")
def models() -> Iterator[tuple[Models, str]]:
    stand_in = Models()
    serving = Serving(stand_in.app)
    yield stand_in, serving.url
    serving.stop()


@pytest.fixture(scope="module")
def shared(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shared")
    versions.use(versions.place(made, "manuals"), built(made, python))
    return made


@pytest.fixture(scope="module")
def program(
    models, python: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    served = spec(
        models[1], python, "ok", "busy", "limited", "slow", "small", "empty-end", "other", "hanging"
    )
    made = Program(served, shared, tmp_path_factory.mktemp("program"))
    yield made
    made.stop()


def test_a_vector_is_the_same_however_it_is_asked_for(program: Program):
    texts = ["Where is my quota shown?", "Der See ist 8 Grad kalt.", "x"]
    answer = program.embed(texts).json()
    assert [one["index"] for one in answer["data"]] == [0, 1, 2]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 10
    coded = program.embed(texts, encoding_format="base64").json()["data"]
    for text, one, code in zip(texts, answer["data"], coded, strict=True):
        assert len(one["embedding"]) == 256
        assert sum(value * value for value in one["embedding"]) == pytest.approx(1, abs=1e-5)
        assert list(struct.unpack("<256f", base64.b64decode(code["embedding"]))) == one["embedding"]
        assert program.embed(text).json()["data"][0]["embedding"] == one["embedding"]
    assert len(program.embed("x", dimensions=64).json()["data"][0]["embedding"]) == 64


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"input": []}, "a list of texts that is not empty"),
        ({"input": ""}, "input[0] is empty"),
        ({"input": [[1, 2]]}, "no token numbers"),
        ({"input": ["x"] * 2049}, "at most 2,048"),
        ({"input": "word " * 9000}, "at most 8,192"),
        ({"input": "x", "encoding_format": "hex"}, "float or base64"),
        ({"input": "x", "dimensions": 100}, "64, 128, 256"),
        ({"input": "x", "metric": 1}, "unknown parameter metric"),
    ],
)
def test_what_cannot_be_embedded_is_refused_by_name(program: Program, body, said):
    answer = program.client.post("/v1/embeddings", json={"model": "embeddings", **body})
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


HALF = rb'{"model": "ok-with-manuals", "messages": [{"role": "user", "content": "half a \ud83d"}]}'
NO_NUMBER = (
    b'{"model": "ok-with-manuals", "temperature": NaN, "messages": [{"role": "user", "content": "x"}]}'
)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b'{"model": "ok-with-manuals"}', HALF, NO_NUMBER]
)
def test_what_is_no_request_is_refused(program: Program, body):
    answer = program.client.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_an_unknown_model_is_refused_with_the_names_of_the_known(program: Program):
    answer = program.chat("hello", "gpt-4o")
    assert answer.status_code == 404
    assert "there is ok-with-manuals" in answer.json()["error"]["message"]


def first_document(program: Program, question: str) -> str:
    answer = program.chat(question)
    assert answer.status_code == 200, answer.text
    return answer.json()["sitewright"]["sources"][0]["document"].removesuffix(".txt")


def test_the_right_document_comes_first(program: Program):
    rows = [json.loads(line) for line in (EXAMPLE / "questions.jsonl").read_text().splitlines()]
    asked = {row["messages"][0]["content"]: name for row, name in zip(rows, ANSWERED_BY.split(), strict=True)}
    for questions in (asked, KEYWORDS):
        wrong = [text for text, manual in questions.items() if first_document(program, text) != manual]
        print(f"\n{len(questions) - len(wrong)} of {len(questions)} right; wrong: {wrong}")
        assert len(wrong) <= 2


def test_passages_go_into_the_question_and_the_rest_passes(program: Program, models, shared: Path):
    models[0].asked.clear()
    earlier = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}]
    messages = [
        *earlier,
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "What is rsync for?"},
    ]
    body = {"model": "ok-with-manuals", "messages": messages, "temperature": 0, "seed": 7}
    answer = program.client.post(
        "/v1/chat/completions", json=body, headers={"Authorization": "Bearer upstream-key"}
    ).json()
    [(path, served, sent, headers)] = models[0].asked
    assert (path, served, sent["temperature"], sent["seed"]) == ("v1/chat/completions", "ok", 0, 7)
    assert headers["authorization"] == "Bearer upstream-key"
    assert sent["messages"][:3] == messages[:3]
    assert "rsync on a login node is for less than 10 GB" in sent["messages"][3]["content"]
    assert sent["messages"][3]["content"].endswith("Question: What is rsync for?")
    assert answer["model"] == "ok-with-manuals"
    extra, manifest = answer["sitewright"], versions.every(versions.place(shared, "manuals"))[0].manifest
    assert (extra["model"], extra["digest"]) == ("ok", manifest["digest"])
    assert extra["sources"][0] | {"score": 0} == {"document": "data-transfer.txt", "passage": 1, "score": 0}


def stream(program: Program, question: str, model: str) -> tuple[list[str], list[dict], str]:
    """Words, the `sitewright` fields, and the last event."""
    answer = program.chat(question, model, stream=True)
    events = [line.removeprefix("data: ") for line in answer.text.split("\n") if line.startswith("data: ")]
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    said = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
    return said, [chunk["sitewright"] for chunk in chunks if "sitewright" in chunk], events[-1]


@pytest.mark.parametrize("model", ["ok-with-manuals", "empty-end-with-manuals"])
def test_a_stream_passes_whole_with_the_sources_in_its_last_chunk(program: Program, model):
    said, extras, last = stream(program, "What is rsync for?", model)
    assert ([word for word in said if word], last) == (WORDS, "[DONE]")
    [extra] = extras
    assert extra["sources"][0]["document"] == "data-transfer.txt"


def test_errors_of_the_model_pass_unchanged(program: Program):
    limited = program.chat("hello", "limited-with-manuals")
    assert (limited.status_code, limited.headers["retry-after"]) == (429, RETRY_AFTER)
    assert limited.json()["error"]["message"] == "slower, please"
    busy = program.chat("hello", "busy-with-manuals", stream=True)
    assert (busy.status_code, busy.json()["error"]["message"]) == (503, "too many queued requests")


def test_a_model_that_counts_no_tokens_is_said_to_be_no_vllm(program: Program):
    answer = program.chat("hello", "other-with-manuals")
    assert answer.status_code == 502
    assert "counts no tokens (POST /tokenize)" in answer.json()["error"]["message"]


def test_a_model_does_not_go_on_for_a_client_that_has_gone(program: Program, models):
    body = {"model": "hanging-with-manuals", "messages": [{"role": "user", "content": "hello"}]}
    for number, more in enumerate(({}, {"stream": True}), start=1):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{program.url}/v1/chat/completions", json=body | more, timeout=3)
        wait_for(lambda number=number: models[0].left == number, "the end of the model's request", 60)


def test_a_model_that_is_not_there_is_said_to_be_so(python, shared, tmp_path):
    program = Program(spec(f"http://127.0.0.1:{free_port()}/v1", python, "ok"), shared, tmp_path)
    try:
        answer = program.chat("hello")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "model ok does not answer: ConnectError" in answer.json()["error"]["message"]
    finally:
        program.stop()


@pytest.mark.parametrize("max_tokens", [10, 40, 75])
def test_passages_are_cut_to_leave_room_for_the_answer(program: Program, models, max_tokens):
    models[0].asked.clear()
    answer = program.chat("What is rsync for?", "small-with-manuals", max_tokens=max_tokens)
    assert answer.status_code == 200, answer.text
    [(_, _, sent, _)] = models[0].asked
    assert words(sent["messages"]) + max_tokens <= SMALL_LIMIT
    sources = answer.json()["sitewright"]["sources"]
    assert len(sources) < 3
    assert sent["messages"][0]["content"].count("<passage number") == len(sources)


def test_a_question_that_is_too_long_is_refused_with_its_length(program: Program):
    answer = program.chat("word " * 100, "small-with-manuals", max_tokens=50)
    assert answer.status_code == 400
    said = answer.json()["error"]["message"]
    assert "the question has 100 tokens and 50 are kept for the answer; the model takes 120 in all" in said
    assert program.chat("word " * (LIMIT - 500)).status_code == 400, (
        "512 are kept where max_tokens is not said"
    )


def test_another_version_is_used_under_load_without_a_failed_request(
    program: Program, python, shared, tmp_path
):
    other = shutil.copytree(EXAMPLE / "manuals", tmp_path / "manuals")
    (other / "rsync.md").write_text("# rsync\n\nrsync is no longer installed; use Globus.\n")
    first, place = versions.current(versions.place(shared, "manuals")), versions.place(shared, "manuals")
    second = built(shared, python, other)
    assert first and second != first
    stop, found = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            answer = program.chat("What is rsync for?")
            said = answer.json().get("sitewright", {})
            found.append((answer.status_code, said.get("version"), said["sources"][0]["document"]))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for name in (second, first, second, first):
        versions.use(place, name)
        wait_for_version(program, name)
    stop.set()
    for thread in threads:
        thread.join()
    print(f"\n{len(found)} requests during 4 switches")
    assert set(found) == {(200, first, "data-transfer.txt"), (200, second, "rsync.md")}


def test_a_damaged_version_is_not_served_and_the_one_before_goes_on(
    program: Program, python, shared, tmp_path
):
    other = shutil.copytree(EXAMPLE / "manuals", tmp_path / "manuals")
    (other / "more.txt").write_text("Something else.\n")
    place, damaged = versions.place(shared, "manuals"), built(shared, python, other)
    before = versions.current(place)
    index = place / damaged / versions.INDEX
    index.write_bytes(index.read_bytes()[:-4096])
    with pytest.raises(Exception, match="is not the file that was built"):
        versions.use(place, damaged)
    (place / "current").unlink()
    (place / "current").symlink_to(damaged)  # as if the file had been cut off later
    wait_for(lambda: "problem" in program.state(), "the refusal", 60)
    assert program.state()["version"] == before
    assert f"{damaged} cannot be used: index.sqlite has sha256" in program.state()["problem"]
    assert program.chat("What is rsync for?").json()["sitewright"]["version"] == before
    versions.use(place, str(before))
    wait_for(lambda: "problem" not in program.state(), "the version before", 60)


def test_a_collection_without_a_version_says_what_to_do(models, python, tmp_path):
    program = Program(spec(models[1], python, "ok"), tmp_path / "shared", tmp_path)
    try:
        answer = program.chat("hello")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "no version is in use yet; `sitewright retrieval use`" in answer.json()["error"]["message"]
        assert program.embed("hello").status_code == 200
    finally:
        program.stop()


def test_a_build_that_is_killed_leaves_what_is_served_and_the_next_one_is_whole(python, shared, tmp_path):
    site, place = tmp_path / "site.yaml", versions.place(shared, "manuals")
    lab = REPOSITORY / "environments/lab.yaml"
    site.write_text(f"extends: {lab}\nname: site\nshared_filesystem: {{publish_dir: {shared}}}\n")
    rows = [{"text": f"Row {number}: " + "node power quota queue " * 8} for number in range(1500)]
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [Path(sys.executable).with_name("sitewright"), "retrieval", "build", "manuals", "-e", site]
    command += ["--from", tmp_path / "rows", "--python", python]
    served, there = versions.current(place), len(versions.every(place))
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    index = place / ".building/version" / versions.INDEX
    wait_for(lambda: index.exists() and index.stat().st_size > 200_000, "a part of the index", 60)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (versions.current(place), len(versions.every(place))) == (served, there)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"v{there + 1}: 1,500 documents, 1,500 passages, built" in done.stdout
    assert f"Next: sitewright retrieval use manuals v{there + 1}" in done.stdout
    versions.use(place, f"v{there + 1}")
    versions.use(place, str(served))
    assert not (place / ".building").exists()
    assert "there already" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_same_documents_make_the_same_file(python, shared, tmp_path):
    assert built(tmp_path, python) == "v1"
    manifests = [
        versions.every(versions.place(where, "manuals"))[0].manifest["digest"] for where in (tmp_path, shared)
    ]
    assert manifests[0] == manifests[1]


def test_open_streams_end_whole_after_sigterm(models, python, shared, tmp_path):
    program = Program(spec(models[1], python, "slow"), shared, tmp_path)
    try:
        found: list = []
        threads = [
            threading.Thread(target=lambda: found.append(stream(program, "rsync", "slow-with-manuals")))
            for _ in range(6)
        ]
        models[0].asked.clear()
        for thread in threads:
            thread.start()
        wait_for(lambda: len(models[0].asked) == 6, "all streams at the stand-in")
        program.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert [(said, len(extras), last) for said, extras, last in found] == [(WORDS, 1, "[DONE]")] * 6
        program.process.wait(30)
    finally:
        program.stop()


def test_memory_stays_within_what_the_lab_gives(program: Program):
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    [peak] = [int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")]
    print(f"\nat most {peak} MiB")
    assert peak < 256


def test_both_sides_call_the_files_of_a_version_alike():
    """The pod has no module of sitewright, so the names stand twice."""
    names = ("CURRENT", "MANIFEST", "INDEX")
    source = (REPOSITORY / "modules/retrieval/retrieval_collections.py").read_text()
    assert all(f'"{getattr(versions, name)}"' in source for name in names)
