"""Rows that are there twice, and rows of the training that are in the evaluation too. Only hashes are kept."""

import unicodedata
from array import array
from collections.abc import Iterator
from hashlib import blake2b

from sitewright.tuning.dataset_rows import Messages
from sitewright.tuning.findings import Fault


def normalised(messages: Messages) -> Messages:
    """The messages without what does not make them others: case, blanks, and how a character is composed."""
    return [{"role": one["role"], "content": _normalised(one["content"])} for one in messages]


def _normalised(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


class Duplicates:
    """Rows seen so far: about 140 bytes each."""

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._lines, self._exact = array("Q"), array("Q")

    def check(self, messages: Messages, normal: Messages, line: int) -> list[Fault]:
        """Whether the row was there before. normal: the messages, normalised."""
        exact = _number(messages) & (2**64 - 1)
        row = self._rows.setdefault(_number(normal), len(self._lines))
        if row == len(self._lines):
            self._lines.append(line)
            self._exact.append(exact)
            return []
        first, fix = self._lines[row], "remove one, unless it is meant to count twice"
        if exact == self._exact[row]:
            return [Fault("duplicate", f"the same row as line {first}", fix, "warning")]
        what = f"the same row as line {first} but for case, blanks or the composition of characters"
        return [Fault("near-duplicate", what, fix, "warning")]


class EvaluationPrompts:
    """What the evaluation asks: everything before its last answer. Takes messages that are normalised.

    name: how the file is called in findings.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._asked: dict[int, int] = {}
        self._without_system: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._asked)

    def add(self, messages: Messages, line: int) -> None:
        *_, last = _prompts(messages)
        *_, bare = _prompts(_no_system(messages))
        self._asked.setdefault(last, line)
        self._without_system.setdefault(bare, line)

    def check(self, messages: Messages) -> list[Fault]:
        """Every answer of a row of the training is learnt with all that stands before it, so each one counts."""
        for prompt in _prompts(messages):
            if prompt in self._asked:
                what = f"its prompt is also asked in {self.name}:{self._asked[prompt]}"
                fix = "remove one of both: the evaluation would measure what was learnt by heart"
                return [Fault("leak", what, fix)]
        for prompt in _prompts(_no_system(messages)):
            if prompt in self._without_system:
                line = self._without_system[prompt]
                what = f"its prompt is also asked in {self.name}:{line}, under another system message"
                return [Fault("near-leak", what, "remove one of both, unless the answer differs", "warning")]
        return []


def _prompts(messages: Messages) -> Iterator[int]:
    """One number for all that stands before each answer."""
    state = blake2b(digest_size=16)
    for message in messages:
        if message["role"] == "assistant":
            yield int.from_bytes(state.digest(), "big")
        _feed(state, message)


def _no_system(messages: Messages) -> Messages:
    return messages[1:] if messages[0]["role"] == "system" else messages


def _number(messages: Messages) -> int:
    state = blake2b(digest_size=16)
    for message in messages:
        _feed(state, message)
    return int.from_bytes(state.digest(), "big")


def _feed(state: blake2b, message: dict[str, str]) -> None:
    content = message["content"]
    state.update(f"{message['role']} {len(content)} {content}".encode())
