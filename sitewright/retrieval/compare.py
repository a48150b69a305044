"""The same questions to several models through the gateway, and what their answers are worth."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx

from sitewright.retrieval.questions import Question
from sitewright.retrieval.scores import METRICS, intervals, percentile, scores

TRIES = 4
LONGEST_WAIT = 30  # seconds, whatever Retry-After says
ANSWER_SECONDS = 300
BUSY = (429, 503)
COUNTS = ("prompt_tokens", "completion_tokens")


@dataclass(frozen=True)
class Asked:
    """How models are asked. url: with /v1; parallel: questions at a time, which makes each answer slower."""

    url: str
    key: str
    max_tokens: int
    parallel: int
    seed: int


def compare(
    questions: Sequence[Question],
    models: Mapping[str, str],
    asked: Asked,
    say: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """One document with every answer, scores, latencies and tokens; see `sitewright/retrieval/report.py` for its form.

    models: by kind (base, rag, adapter). A question without an answer counts 0 in every score and has no latency.
    """
    headers = {"Authorization": f"Bearer {asked.key}"}
    done = count(1)
    with (
        httpx.Client(headers=headers, timeout=ANSWER_SECONDS, trust_env=False) as client,
        ThreadPoolExecutor(asked.parallel) as pool,
    ):

        def one(task: tuple[str, Question]) -> dict[str, Any]:
            answer = _answer(client, asked, *task)
            if (number := next(done)) % 10 == 0:
                say(number)
            return answer

        tasks = [(name, question) for name in models.values() for question in questions]
        answers = list(pool.map(one, tasks))
    size = len(questions)
    by_model = {kind: answers[place * size : (place + 1) * size] for place, kind in enumerate(models)}
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "questions_digest": _digest(questions),
        "seed": asked.seed,
        "max_tokens": asked.max_tokens,
        "parallel": asked.parallel,
        "models": _models(models, by_model, asked.seed),
        "questions": [
            {
                "line": question.line,
                "question": question.text,
                "wanted": question.wanted,
                "answers": {kind: by_model[kind][place] for kind in models},
            }
            for place, question in enumerate(questions)
        ],
    }


def _models(
    models: Mapping[str, str], answers: Mapping[str, list[dict[str, Any]]], seed: int
) -> list[dict[str, Any]]:
    """Of each model: its scores with intervals, and the differences to the first one."""
    first = next(iter(models))
    columns: dict[str, list[float]] = {}
    for kind in models:
        for metric in METRICS:
            columns[f"{kind} {metric}"] = [one["scores"][metric] for one in answers[kind]]
            before = columns[f"{first} {metric}"]
            columns[f"{kind} {metric} more"] = [
                mine - theirs for mine, theirs in zip(columns[f"{kind} {metric}"], before, strict=True)
            ]
    found = intervals(columns, seed)
    return [
        {
            "kind": kind,
            "model": name,
            "scores": {metric: _interval(found[f"{kind} {metric}"]) for metric in METRICS},
            "against": None if kind == first else first,
            "difference": (
                None if kind == first else {m: _interval(found[f"{kind} {m} more"]) for m in METRICS}
            ),
            **_costs(answers[kind]),
        }
        for kind, name in models.items()
    ]


def _interval(found: tuple[float, float, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in zip(("mean", "low", "high"), found, strict=True)}


def _costs(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    taken = [one["seconds"] for one in answers if one["error"] is None]
    return {
        "latency": {f"p{percent}": round(percentile(taken, percent), 4) for percent in (50, 95)}
        if taken
        else None,
        "tokens": {name: sum(one["tokens"][name] for one in answers) for name in COUNTS},
        "failed": [place for place, one in enumerate(answers) if one["error"] is not None],
    }


def _answer(client: httpx.Client, asked: Asked, model: str, question: Question) -> dict[str, Any]:
    body = {
        "model": model,
        "messages": question.messages,
        "temperature": 0,
        "max_tokens": asked.max_tokens,
    }
    started, told = time.monotonic(), ""
    for attempt in range(TRIES):
        started = time.monotonic()
        try:
            response = client.post(f"{asked.url}/chat/completions", json=body)
        except httpx.HTTPError as error:
            told = f"{type(error).__name__}: {error}"
            continue
        if response.status_code == 200:
            return _scored(response, question, time.monotonic() - started)
        told = f"HTTP {response.status_code}: {_message(response)}"
        if response.status_code not in BUSY:
            break
        if attempt < TRIES - 1:
            time.sleep(_wait(response, attempt))
    return _failed(told)


def _scored(response: httpx.Response, question: Question, seconds: float) -> dict[str, Any]:
    try:
        found = response.json()
        text = found["choices"][0]["message"]["content"] or ""
        usage = found.get("usage") or {}
        tokens = {name: int(usage.get(name) or 0) for name in COUNTS}
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return _failed(f"the answer is no chat completion: {type(error).__name__}: {error}")
    sources = (found.get("sitewright") or {}).get("sources", [])
    return {
        "answer": text,
        "error": None,
        "seconds": round(seconds, 4),
        "tokens": tokens,
        "sources": [{"document": one["document"], "passage": one["passage"]} for one in sources],
        "scores": scores(text, question.wanted),
    }


def _failed(error: str) -> dict[str, Any]:
    return {
        "answer": None,
        "error": error,
        "seconds": None,
        "tokens": dict.fromkeys(COUNTS, 0),
        "sources": [],
        "scores": dict.fromkeys(METRICS, 0.0),
    }


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return response.text[:500]


def _wait(response: httpx.Response, attempt: int) -> float:
    told = response.headers.get("retry-after", "")
    return min(LONGEST_WAIT, float(told) if told.isdigit() else 2.0**attempt)


def _digest(questions: Sequence[Question]) -> str:
    listed = json.dumps([[question.messages, question.wanted] for question in questions])
    return hashlib.sha256(listed.encode()).hexdigest()
