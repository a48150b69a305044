"""Rows as a model learns them: tokens, and labels of what the assistant says. Runs in the pod too."""

import json
from pathlib import Path
from typing import Any

from modules.tuning.fine_tuning_files import HopelessError

IGNORED = -100  # label that the loss of transformers leaves out


def rows(path: Path) -> list[list[dict[str, str]]]:
    return [
        json.loads(line)["messages"]
        for line in path.read_text(encoding="utf-8-sig").splitlines()
        if line.strip()
    ]


def tokens(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and the labels: only what the assistant says is learnt."""
    done = ""
    ids: list[int] = []
    labels: list[int] = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked = tokenizer.apply_chat_template(messages[:index], tokenize=False, add_generation_prompt=True)
        answered = tokenizer.apply_chat_template(messages[: index + 1], tokenize=False)
        if not (asked.startswith(done) and answered.startswith(asked)):
            raise HopelessError("the model's chat template rewrites earlier turns; use rows of one turn")
        for text, learnt in ((asked[len(done) :], False), (answered[len(asked) :], True)):
            piece = tokenizer.encode(text, add_special_tokens=False)
            ids += piece
            labels += piece if learnt else [IGNORED] * len(piece)
        done = answered
    return ids, labels


def encoded(tokenizer: Any, path: Path, max_length: int) -> list[dict[str, list[int]]]:
    """All rows as tokens. Raises: HopelessError for a row that is longer than `max_length` tokens."""
    result = []
    for number, messages in enumerate(rows(path), 1):
        ids, labels = tokens(tokenizer, messages)
        if len(ids) > max_length:
            raise HopelessError(
                f"{path.name}: row {number} is {len(ids)} tokens long, max_length is {max_length}"
            )
        result.append({"input_ids": ids, "labels": labels})
    return result
