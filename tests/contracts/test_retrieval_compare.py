"""`sitewright retrieval compare` against an OpenAI-speaking server of its own: scores, failures, files, exit status."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from sitewright.cli import main
from tests.contracts.retrieval_program import Serving

KEY = "sk-of-the-evaluation-01"
WANTED = {"How big is home?": "50 GB", "Which <tool> copies?": "Globus", "How long is debug?": "30 minutes"}
ROWS = [
    {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
    for question, answer in WANTED.items()
]


class Answers:
    """`base` knows nothing, `rag` all, `adapter` half; `broken` fails at one question, `busy` at each first try."""

    def __init__(self) -> None:
        self.app, self.asked = FastAPI(), Counter()
        self.bodies: list[dict] = []
        self.app.add_api_route("/v1/chat/completions", self.answer, methods=["POST"])

    async def answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"error": {"message": "no valid key"}}, 401)
        body = await request.json()
        self.bodies.append(body)
        model, question = body["model"], body["messages"][-1]["content"]
        self.asked[model, question] += 1
        if model == "busy" and self.asked[model, question] == 1:
            return JSONResponse({"error": {"message": "too many"}}, 429, {"retry-after": "0"})
        if model == "broken" and question.startswith("How big"):
            return JSONResponse({"error": {"message": "it <b>broke</b>"}}, 500)
        said = {
            "base": "I do not know.",
            "adapter": WANTED[question].split()[0],
            "rag": f"{WANTED[question]}.",
        }.get(model, WANTED[question])
        usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        found = {"id": "x", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}
        if model == "rag":
            found["sitewright"] = {"sources": [{"document": "a.txt", "passage": 2, "score": 1}]}
        return JSONResponse(found)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Answers, str]]:
    answers = Answers()
    serving = Serving(answers.app)
    yield answers, serving.url
    serving.stop()


@pytest.fixture
def compare(server, tmp_path: Path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def call(*arguments: str, key: str = KEY, questions: Path = rows):
        files = ["--json", str(tmp_path / "c.json"), "--html", str(tmp_path / "c.html")]
        command = [
            "retrieval",
            "compare",
            "--questions",
            str(questions),
            "--url",
            server[1],
            *files,
            *arguments,
        ]
        return CliRunner(env={"OPENAI_API_KEY": key}).invoke(main, command)

    return call


def test_three_models_are_compared_in_one_report(compare, server, tmp_path):
    server[0].bodies.clear()
    done = compare(
        "--base", "base", "--rag", "rag", "--adapter", "adapter", "--parallel", "4", "--max-tokens", "9"
    )
    assert done.exit_code == 0, done.output
    assert len(server[0].bodies) == 9
    assert {(body["temperature"], body["max_tokens"]) for body in server[0].bodies} == {(0, 9)}
    found = json.loads((tmp_path / "c.json").read_text())
    base, rag, adapter = found["models"]
    assert [one["scores"]["exact"]["mean"] for one in (base, rag, adapter)] == [0, 1, pytest.approx(1 / 3)]
    assert rag["scores"]["f1"] == {"mean": 1, "low": 1, "high": 1}
    assert rag["difference"]["contains"]["mean"] == 1
    assert adapter["scores"]["f1"]["low"] < adapter["scores"]["f1"]["mean"] < adapter["scores"]["f1"]["high"]
    assert base["difference"] is None
    assert rag["tokens"] == {"prompt_tokens": 30, "completion_tokens": 9}
    assert 0 < rag["latency"]["p50"] <= rag["latency"]["p95"]
    assert found["questions"][0]["answers"]["rag"]["sources"] == [{"document": "a.txt", "passage": 2}]


def test_the_page_is_well_formed_needs_nothing_else_and_runs_nothing(compare, tmp_path):
    assert compare("--base", "base", "--rag", "rag").exit_code == 0
    page = (tmp_path / "c.html").read_text()
    assert "Which &lt;tool&gt; copies?" in page
    assert not re.search(r"(?i)<script|<link|<img|url\(|https?://|<tool>", page)
    pictures = re.findall(r"(?s)<svg.*?</svg>", page)
    assert len(pictures) == 4
    for picture in pictures:
        tree = ElementTree.fromstring(picture)
        assert len([one for one in tree.iter() if one.tag == "rect"]) == 2
    assert "a.txt 2" in page


def test_a_question_without_an_answer_is_listed_and_counts_as_wrong(compare, tmp_path):
    done = compare("--base", "rag", "--adapter", "broken")
    assert done.exit_code == 1
    assert "1 of 6 questions got no answer" in done.output
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["models"][1]["failed"] == [0]
    assert found["models"][1]["scores"]["exact"]["mean"] == pytest.approx(2 / 3)
    assert found["questions"][0]["answers"]["adapter"]["error"] == "HTTP 500: it <b>broke</b>"
    assert "it &lt;b&gt;broke&lt;/b&gt;" in (tmp_path / "c.html").read_text()


def test_a_busy_model_is_asked_again(compare, tmp_path):
    assert compare("--base", "busy", "--rag", "rag").exit_code == 0
    assert json.loads((tmp_path / "c.json").read_text())["models"][0]["failed"] == []


def test_a_server_that_is_not_there_fails_every_question_and_still_leaves_the_report(compare, tmp_path):
    done = compare("--base", "a", "--rag", "b", "--url", "http://127.0.0.1:9/v1")
    assert done.exit_code == 1
    found = json.loads((tmp_path / "c.json").read_text())
    assert [len(one["failed"]) for one in found["models"]] == [3, 3]
    assert found["models"][0]["latency"] is None
    assert "ConnectError" in found["questions"][0]["answers"]["base"]["error"]


def test_the_same_seed_gives_the_same_intervals(compare, tmp_path):
    found = []
    for seed in ("7", "7"):
        assert compare("--base", "base", "--adapter", "adapter", "--seed", seed).exit_code == 0
        found.append(json.loads((tmp_path / "c.json").read_text())["models"][1]["scores"])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--base", "base"], "two or three different models"),
        (["--base", "base", "--rag", "base"], "two or three different models"),
        (["--base", "a", "--rag", "b", "--key-file", "/nowhere"], "/nowhere: the key cannot be read"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_asked(compare, server, arguments, said):
    server[0].bodies.clear()
    done = compare(*arguments)
    assert (done.exit_code, bool(server[0].bodies)) == (2, False)
    assert said in done.output


def test_rows_that_are_no_questions_are_refused_by_line(compare, server, tmp_path):
    rows = tmp_path / "wrong.jsonl"
    rows.write_text('{"messages": [{"role": "user", "content": "x"}]}\n{"question": "y"}\n')
    server[0].bodies.clear()
    done = compare("--base", "a", "--rag", "b", questions=rows)
    assert (done.exit_code, bool(server[0].bodies)) == (2, False)
    assert "wrong.jsonl:1: error: no message of the assistant" in done.output
    assert "wrong.jsonl:2: error" in done.output


def test_the_key_comes_from_a_file_too_and_is_shown_nowhere(compare, tmp_path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    done = compare("--base", "base", "--rag", "rag", "--key-file", str(file), key="")
    assert done.exit_code == 0, done.output
    assert compare("--base", "base", "--rag", "rag", key="").exit_code == 2
    for text in (done.output, (tmp_path / "c.json").read_text(), (tmp_path / "c.html").read_text()):
        assert KEY not in text
