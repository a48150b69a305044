"""Documents as they are read, and the passages that are cut of them."""

import json
from pathlib import Path

import pytest

from sitewright.errors import SitewrightError
from sitewright.retrieval.documents import Document, read
from sitewright.retrieval.passages import cut, passages
from sitewright.tuning.findings import Findings

TEXT = "One sentence here. Another one follows! A third?\n\nA new paragraph, which is longer than the others. End."


def written(place: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = place / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return place


def test_every_kind_is_read_and_named_by_its_place(tmp_path):
    rows = [{"text": "first", "id": "a", "title": "T"}, {"text": "second"}]
    place = written(
        tmp_path,
        a_md="intro\n# The heading #\n\nText.",
        sub__b_txt="First line\nand more",
        c_jsonl="".join(json.dumps(row) + "\n" for row in rows),
        _hidden_md="not read",
    )
    findings = Findings()
    found = read(place, findings)
    assert [(one.name, one.title) for one in found] == [
        ("a.md", "The heading"),
        ("c.jsonl#a", "T"),
        ("c.jsonl#2", "second"),
        ("sub/b.txt", "First line"),
    ]
    assert findings.lines() == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a_md", b"", "the file is empty"),
        ("a_md", b" \n\n ", "the file is empty"),
        ("a_txt", b"text\0text", "holds zero bytes"),
        ("a_txt", b"Z\xfcrich", "not UTF-8: byte 2 is 0xfc"),
        ("a_jsonl", b'{"text": ""}\n', "a.jsonl:1: error: text is empty"),
        ("a_jsonl", b'{"txt": "x"}\n', "unknown key txt"),
        ("a_jsonl", b'{"text": 1}\n', "text: a text is wanted"),
        ("a_jsonl", b"[1]\n", "the row is no object"),
        ("a_jsonl", b"{\n", "not JSON"),
        ("a_jsonl", b'{"text": "x", "id": 1}\n{"text": "y", "id": 1}\n', "the id 1 is there twice"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path, name, content, said):
    findings = Findings()
    read(written(tmp_path, good_md="Good.", **{name: content}), findings)
    [line] = [line for line in findings.lines() if "error" in line]
    assert name.replace("_", ".") in line
    assert said in line


def test_what_is_left_out_is_named(tmp_path):
    findings = Findings()
    found = read(written(tmp_path, a_md="Same.", b_md="Same.", c_pdf="%PDF"), findings)
    assert [one.name for one in found] == ["a.md"]
    assert findings.total("error") == 0
    first, second = findings.lines()
    assert "b.md says the same as a.md" in first
    assert "c.pdf: warning: files of kind .pdf are not read" in second


def test_no_document_and_no_directory_are_errors(tmp_path):
    findings = Findings()
    assert read(tmp_path, findings) == []
    assert findings.total("error") == 1
    with pytest.raises(SitewrightError, match="no such directory"):
        read(tmp_path / "absent", findings)


@pytest.mark.parametrize(("length", "overlap"), [(20, 0), (40, 15), (60, 30), (100, 50), (1000, 150)])
def test_passages_keep_every_word_and_their_length(length, overlap):
    found = list(cut(TEXT, length, overlap))
    assert all(len(one) <= length for one in found)
    position, words = 0, TEXT.split()
    for one in found:
        part = one.split()
        begin = next(at for at in range(position + 1) if words[at : at + len(part)] == part)
        assert begin <= position, "nothing is missing between two passages"
        position = max(position, begin + len(part))
    assert position == len(words)


def test_a_passage_ends_with_a_sentence_and_the_next_one_repeats_some_of_it():
    first, second, *_ = cut(TEXT, 50, 25)
    assert first == "One sentence here. Another one follows! A third?"
    assert second == "A new paragraph, which is longer than the others."
    assert [*cut("One two. Three four. Five six.", 22, 12)] == [
        "One two. Three four.",
        "Three four. Five six.",
    ]


def test_a_word_without_end_is_cut():
    assert [*cut("x" * 50, 20, 5)] == ["x" * 20, "x" * 20, "x" * 10]


def test_a_passage_that_is_there_already_is_left_out():
    found = passages([Document("a", "A", "Same words."), Document("b", "B", "same  WORDS.")], 100, 0)
    assert [(one.document, one.number) for one in found] == [("a", 1)]


def test_the_same_text_is_cut_alike():
    documents = [Document(str(number), "T", TEXT * (number + 1)) for number in range(5)]
    assert passages(documents, 80, 20) == passages(documents, 80, 20)
