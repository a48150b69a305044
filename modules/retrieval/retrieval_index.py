"""The index of a collection: one SQLite file with passages, their words and their vectors, which never changes.

    python -m modules.retrieval.retrieval_index PASSAGES.jsonl INDEX.sqlite    builds one; progress as JSON lines

Runs in images/environments/retrieval, on the operator's machine and in the pods. Passages come as
`{"document", "number", "title", "text"}`, one per line. The same passages make the same file, byte for byte.
"""

import json
import re
import sqlite3
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import sqlite_vec

from modules.retrieval.retrieval_embeddings import DIMENSIONS, Embedder
from modules.retrieval.retrieval_passage import Passage

CANDIDATES = 50  # of each kind, before they are merged
RANK_OFFSET = 60  # Source: Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion", SIGIR 2009
# Of the ranking by words; at 1 and at 0 fewer of the questions of tests/contracts find their document.
WORDS_WEIGHT = 0.5
BATCH = 512  # passages per transaction and line of progress
QUESTION_WORDS = 64  # more are no question but a text
# English words that every document has: in a small collection they would decide which one is found.
STOP_WORDS = frozenset(
    """
    a about after all an and any are as at be been but by can could did do does for from had has have how i if in into
    is it its may me might much must my no not of on or our shall should so some than that the their them then there
    these they this those to us was we were what when where which who whom whose why will with would you your
    """.split()  # noqa: SIM905 - as lines of text they can be read
)
_SCHEMA = f"""
PRAGMA page_size = 8192;
PRAGMA journal_mode = OFF;
CREATE TABLE passages (id INTEGER PRIMARY KEY, document TEXT, number INTEGER, title TEXT, text TEXT);
CREATE VIRTUAL TABLE words USING fts5(title, text, content='passages', content_rowid='id',
                                      tokenize='porter unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE vectors USING vec0(embedding float[{DIMENSIONS[-1]}] distance_metric=cosine);
"""


class Index:
    """An index that is open for reading. Many threads may search it.

    Raises: sqlite3.DatabaseError where the file is none.
    """

    def __init__(self, path: Path, embedder: Embedder) -> None:
        # immutable: no lock is taken, which parallel file systems are bad at.
        self._database = _connect(f"file:{path}?mode=ro&immutable=1")
        self._embedder, self._lock = embedder, threading.Lock()
        (self.passages,) = self._database.execute("SELECT count(*) FROM passages").fetchone()

    def search(self, question: str, top: int) -> list[Passage]:
        """The passages nearest to a question by words and by meaning, best first; the order is always the same."""
        scores: dict[int, float] = {}
        with self._lock:
            rankings = ((1.0, self._by_meaning(question)), (WORDS_WEIGHT, self._by_words(question)))
            for weight, ranking in rankings:
                for rank, identity in enumerate(ranking, start=1):
                    scores[identity] = scores.get(identity, 0.0) + weight / (RANK_OFFSET + rank)
            best = sorted(scores, key=lambda identity: (-scores[identity], identity))[:top]
            return [self._passage(identity, scores[identity]) for identity in best]

    def _by_meaning(self, question: str) -> list[int]:
        [vector] = self._embedder.embed(self._embedder.tokens([question]))
        if not vector.any():
            return []
        wanted = "SELECT distance, rowid FROM vectors WHERE embedding MATCH ? AND k = ?"
        nearest = sorted(self._database.execute(wanted, (vector.tobytes(), CANDIDATES)))
        return [identity for _, identity in nearest]

    def _by_words(self, question: str) -> list[int]:
        found = list(dict.fromkeys(re.findall(r"\w+", question.lower())))
        words = ([word for word in found if word not in STOP_WORDS] or found)[:QUESTION_WORDS]
        if not words:
            return []
        # Quoted, a word is a word and no operator of FTS5.
        any_of_them = " OR ".join(f'"{word}"' for word in words)
        wanted = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words, 2.0, 1.0), rowid LIMIT ?"
        return [identity for (identity,) in self._database.execute(wanted, (any_of_them, CANDIDATES))]

    def _passage(self, identity: int, score: float) -> Passage:
        wanted = "SELECT document, number, text FROM passages WHERE id = ?"
        document, number, text = self._database.execute(wanted, (identity,)).fetchone()
        return Passage(document, number, text, round(score, 6))


def build(passages: Path, target: Path, embedder: Embedder) -> Iterator[int]:
    """Writes the index of the passages of a JSONL file; yields how many are in it so far."""
    database = _connect(f"file:{target}?mode=rwc")
    database.executescript(_SCHEMA)
    done = 0
    with passages.open(encoding="utf-8") as lines:
        while batch := [json.loads(line) for line in islice(lines, BATCH)]:
            _insert(database, done, batch, embedder)
            done += len(batch)
            yield done
    database.execute("INSERT INTO words(words) VALUES ('optimize')")
    database.commit()
    database.execute("VACUUM")
    database.close()


def _insert(database: sqlite3.Connection, before: int, batch: list[dict], embedder: Embedder) -> None:
    vectors = embedder.embed(embedder.tokens([f"{one['title']}\n{one['text']}" for one in batch]))
    for identity, (one, vector) in enumerate(zip(batch, vectors, strict=True), start=before + 1):
        row = (identity, one["document"], one["number"], one["title"], one["text"])
        database.execute("INSERT INTO passages VALUES (?, ?, ?, ?, ?)", row)
        database.execute(
            "INSERT INTO words(rowid, title, text) VALUES (?, ?, ?)", (identity, one["title"], one["text"])
        )
        database.execute("INSERT INTO vectors(rowid, embedding) VALUES (?, ?)", (identity, vector.tobytes()))
    database.commit()


def _connect(uri: str) -> sqlite3.Connection:
    database = sqlite3.connect(uri, uri=True, check_same_thread=False)
    database.enable_load_extension(True)
    sqlite_vec.load(database)
    database.enable_load_extension(False)
    return database


def main() -> None:
    passages, target = map(Path, sys.argv[1:])
    embedder = Embedder()
    print(json.dumps({"embedding": embedder.version}), flush=True)
    for done in build(passages, target, embedder):
        print(json.dumps({"done": done}), flush=True)


if __name__ == "__main__":
    main()
