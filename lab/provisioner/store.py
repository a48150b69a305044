"""Documents by kind and key in one SQLite file, in the order they were first put."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Document = dict[str, Any]

SCHEMA = """
create table if not exists documents (
    seq  integer primary key autoincrement,
    kind text not null,
    key  text not null,
    body text not null,
    unique (kind, key)
)
"""
FQDNS = "create index if not exists fqdns on documents (kind, json_extract(body, '$.FQDN'))"
"""No two BMCs have one name, and each new one is compared with all."""


class Store:
    """What the stand-in remembers. path: the file, or ":memory:"."""

    def __init__(self, path: Path | str) -> None:
        # One event loop uses the connection, but tests run that loop in a thread.
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("pragma journal_mode = wal")
        # A power cut of the machine may lose the last second, never the file.
        self._db.execute("pragma synchronous = normal")
        self._db.execute(SCHEMA)
        self._db.execute(FQDNS)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's changes, or none."""
        self._db.execute("begin")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def get(self, kind: str, key: str) -> Document | None:
        row = self._db.execute(
            "select body from documents where kind = ? and key = ?", (kind, key)
        ).fetchone()
        return json.loads(row[0]) if row else None

    def has_fqdn(self, kind: str, fqdn: str) -> bool:
        """Whether a document of this kind has that `FQDN`."""
        wanted = "select 1 from documents where kind = ? and json_extract(body, '$.FQDN') = ?"
        return self._db.execute(wanted, (kind, fqdn)).fetchone() is not None

    def put(self, kind: str, key: str, body: Document) -> None:
        """Store `body`; a document that exists is replaced and keeps its place."""
        self._db.execute(
            "insert into documents (kind, key, body) values (?, ?, ?)"
            " on conflict (kind, key) do update set body = excluded.body",
            (kind, key, json.dumps(body)),
        )

    def delete(self, kind: str, key: str) -> bool:
        """True if there was one."""
        cursor = self._db.execute("delete from documents where kind = ? and key = ?", (kind, key))
        return cursor.rowcount > 0

    def items(self, kind: str) -> list[tuple[str, Document]]:
        rows = self._db.execute("select key, body from documents where kind = ? order by seq", (kind,))
        return [(key, json.loads(body)) for key, body in rows]

    def all(self, kind: str) -> list[Document]:
        return [body for _, body in self.items(kind)]

    def close(self) -> None:
        self._db.close()
