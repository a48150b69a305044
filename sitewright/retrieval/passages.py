"""Documents cut into passages, at the ends of sentences; the same documents always give the same passages."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sitewright.retrieval.documents import Document

_PARAGRAPH = re.compile(r"\n[ \t]*\n+")
_SENTENCE = re.compile(r"(?<=[.!?…])[\"')\]]*\s+|\n(?=[ \t]*(?:[-*+|#>]|\d+\.)\s)")


class Passage(NamedTuple):
    """number: in its document, from 1."""

    document: str
    number: int
    title: str
    text: str


class _Piece(NamedTuple):
    """A sentence, and what stands between it and the one before."""

    joint: str
    text: str


def passages(documents: Iterable[Document], length: int, overlap: int) -> list[Passage]:
    """length: characters of a passage at most; overlap: characters of it that the next one repeats at most.

    A passage that says word for word what an earlier one does is left out.
    """
    found: list[Passage] = []
    seen: set[bytes] = set()
    for document in documents:
        for number, text in enumerate(cut(document.text, length, overlap), start=1):
            digest = hashlib.sha256(" ".join(text.split()).casefold().encode()).digest()
            if digest not in seen:
                seen.add(digest)
                found.append(Passage(document.name, number, document.title, text))
    return found


def cut(text: str, length: int, overlap: int) -> Iterator[str]:
    """The passages of one text, in its order; together they hold every word of it."""
    kept: list[_Piece] = []
    fresh = 0  # pieces of `kept` that no passage had yet
    for piece in _pieces(text, length):
        if kept and _size([*kept, piece]) > length:
            if fresh:
                yield _joined(kept)
            kept = _tail(kept, min(overlap, length - len(piece.text) - len(piece.joint)))
            fresh = 0
        kept.append(piece)
        fresh += 1
    if fresh:
        yield _joined(kept)


def _pieces(text: str, length: int) -> Iterator[_Piece]:
    for paragraph in _PARAGRAPH.split(text):
        joint = "\n\n"
        for sentence in _SENTENCE.split(paragraph):
            for part in _parts(sentence.strip(), length):
                yield _Piece(joint, part)
                joint = " "


def _parts(sentence: str, length: int) -> Iterator[str]:
    """A sentence that is too long is cut between words, and a word that is too long anywhere."""
    while len(sentence) > length:
        end = sentence.rfind(" ", 1, length + 1)
        end = end if end > 0 else length
        yield sentence[:end].rstrip()
        sentence = sentence[end:].lstrip()
    if sentence:
        yield sentence


def _tail(pieces: list[_Piece], overlap: int) -> list[_Piece]:
    for begin in range(1, len(pieces)):
        if _size(pieces[begin:]) <= overlap:
            return pieces[begin:]
    return []


def _size(pieces: list[_Piece]) -> int:
    return sum(len(piece.joint) + len(piece.text) for piece in pieces) - len(pieces[0].joint)


def _joined(pieces: list[_Piece]) -> str:
    return "".join(piece.joint + piece.text for piece in pieces).removeprefix(pieces[0].joint)
