"""The documents of a collection, read and checked: .md and .txt are one document each, .jsonl is one per row.

A row is `{"text": …}`, with `title` and `id` where it has them.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sitewright.errors import SitewrightError
from sitewright.tuning.dataset_file import lines, open_for_reading
from sitewright.tuning.findings import Fault, Findings

KINDS = (".jsonl", ".md", ".txt")
LARGEST = 64 * 2**20
"""Bytes of one document; above, a file is more likely a dump than something to read."""
_KEYS = frozenset(["id", "text", "title"])
_ROW = 'write {"text": "…", "title": "…", "id": "…"}; title and id may be left out'


@dataclass(frozen=True)
class Document:
    """name: its path below the directory, with `#id` or `#line` for a row; that is what an answer names as source."""

    name: str
    title: str
    text: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.title}\0{self.text}".encode()).hexdigest()


def read(directory: Path, findings: Findings) -> list[Document]:
    """All documents below a directory, by name. What is wrong goes to findings, by the name of the file.

    Files of other kinds are named in a warning, hidden ones are passed over; of two documents that say the same, the
    second is left out. Raises: SitewrightError where the directory cannot be read.
    """
    if not directory.is_dir():
        raise SitewrightError(f"{directory}: no such directory", "Give the directory of the documents.")
    found: list[Document] = []
    first: dict[str, str] = {}
    for path in _files(directory):
        for line, document in _documents(path, path.relative_to(directory).as_posix(), findings):
            same = first.setdefault(hashlib.sha256(document.text.encode()).hexdigest(), document.name)
            if same == document.name:
                found.append(document)
            else:
                what = f"{document.name} says the same as {same}; it is left out"
                findings.add(path, line, [Fault("duplicate", what, "remove one of the two", "warning")])
    if not found:
        findings.add(
            directory, None, [Fault("nothing", "no document can be used", f"put {_kinds()} files there")]
        )
    return found


def _files(directory: Path) -> list[Path]:
    paths = (path for path in directory.rglob("*") if path.is_file())
    return sorted(
        path for path in paths if not any(part.startswith(".") for part in path.relative_to(directory).parts)
    )


def _documents(path: Path, name: str, findings: Findings) -> Iterator[tuple[int | None, Document]]:
    if path.suffix.lower() not in KINDS:
        what = f"files of kind {path.suffix or 'unknown'} are not read; this one is left out"
        findings.add(path, None, [Fault("kind", what, f"convert it to one of {_kinds()}", "warning")])
    elif path.suffix.lower() == ".jsonl":
        yield from _rows(path, name, findings)
    elif text := _text(path, findings):
        yield None, Document(name, _title(text), text)


def _kinds() -> str:
    return ", ".join(KINDS)


def _text(path: Path, findings: Findings) -> str:
    """The content; empty where there is none, and then findings say why."""
    if (size := path.stat().st_size) > LARGEST:
        what = f"{size:,} bytes; a document has at most {LARGEST:,}"
        findings.add(path, None, [Fault("large", what, "split it")])
        return ""
    with open_for_reading(path) as file:
        raw = file.read().removeprefix(b"\xef\xbb\xbf")
    if b"\0" in raw:
        findings.add(
            path, None, [Fault("binary", "the file holds zero bytes: it is no text", "convert or remove it")]
        )
        return ""
    try:
        text = raw.decode().replace("\r\n", "\n").strip()
    except UnicodeDecodeError as error:
        what = f"not UTF-8: byte {error.start + 1:,} is 0x{raw[error.start]:02x}"
        findings.add(path, None, [Fault("not-utf8", what, "convert it: iconv -f LATIN1 -t UTF-8 FILE")])
        return ""
    if not text:
        findings.add(path, None, [Fault("empty", "the file is empty", "fill or remove it")])
    return text


def _rows(path: Path, name: str, findings: Findings) -> Iterator[tuple[int | None, Document]]:
    names: set[str] = set()
    with open_for_reading(path) as file:
        for line in lines(file, path, findings):
            if line.text is None:
                continue
            try:
                row = json.loads(line.text)
            except (ValueError, RecursionError) as error:
                findings.add(path, line.number, [Fault("not-json", f"not JSON: {error}", _ROW)])
                continue
            if problem := _row_problem(row):
                findings.add(path, line.number, [Fault("row", problem, _ROW)])
                continue
            text = row["text"].strip()
            document = Document(
                f"{name}#{row.get('id', line.number)}", row.get("title") or _title(text), text
            )
            if document.name in names:
                findings.add(
                    path, line.number, [Fault("id", f"the id {row['id']!r} is there twice", "change one")]
                )
            names.add(document.name)
            yield line.number, document


def _row_problem(row: object) -> str:
    if not isinstance(row, dict):
        return "the row is no object"
    if unknown := sorted(set(row) - _KEYS):
        return f"unknown key {', '.join(unknown)}"
    wrong = [key for key, value in row.items() if not isinstance(value, str | int if key == "id" else str)]
    if wrong:
        return f"{', '.join(wrong)}: a text is wanted"
    return "" if row.get("text", "").strip() else "text is empty, or not there"


def _title(text: str) -> str:
    """The first heading of Markdown, or else the first line, up to 100 characters."""
    heading = re.search(r"(?m)^#{1,6}[ \t]+(.+?)[ \t#]*$", text)
    return (heading[1] if heading else text.split("\n", 1)[0].strip())[:100]
