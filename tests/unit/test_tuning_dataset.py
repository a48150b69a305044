"""What the check of a data set says. A case is a folder of tests/data/tuning/dataset, with what is said of it."""

import hashlib
import json
import shutil
import subprocess
import tracemalloc
from pathlib import Path

import pytest
from jinja2 import TemplateError

from sitewright.errors import SitewrightError
from sitewright.tuning import dataset_file
from sitewright.tuning.dataset import check
from tests.unit import golden

CASES = golden.cases("tuning/dataset")
MAX_LENGTH = 400


def row(question: str, answer: str = "Yes.") -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}) + "\n"


@pytest.fixture
def check_text(tmp_path, monkeypatch):
    """Checks a data set that is given as text or bytes."""
    monkeypatch.chdir(tmp_path)

    def checked(train: str | bytes, evaluation: str | None = None, max_length=MAX_LENGTH, count_tokens=None):
        files = {"train.jsonl": train, "evaluation.jsonl": evaluation}
        for name, text in files.items():
            if text is not None:
                Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
        held_out = None if evaluation is None else Path("evaluation.jsonl")
        return check(Path("train.jsonl"), held_out, max_length, count_tokens)

    return checked


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_the_findings_of_a_case_are_the_recorded_ones(case, monkeypatch):
    monkeypatch.chdir(case)
    evaluation = Path("evaluation.jsonl")
    report = check(Path("train.jsonl"), evaluation if evaluation.exists() else None, MAX_LENGTH, None)
    counts = f"{report.train.rows} rows, {report.train.usable} of them usable; "
    counts += f"{report.errors} errors, {report.warnings} warnings\n"
    golden.check(case / "findings.txt", counts + "".join(f"{line}\n" for line in report.lines()))


def found(report) -> list[tuple[int | None, str]]:
    return [(finding.line, finding.kind) for finding in report.findings]


def test_a_byte_order_mark_and_a_blank_line_cost_no_row():
    """datasets issue 8241: the first row, or all of them, were lost without a word."""
    [case] = [path for path in CASES if path.name == "byte-order-mark-and-blank-line"]
    report = check(case / "train.jsonl", None, MAX_LENGTH, None)
    assert (report.train.rows, report.train.usable) == (4, 4)
    assert found(report) == [(1, "bom"), (3, "blank-line")]
    assert not report.ok


def test_a_broken_row_is_named_with_its_physical_line_and_so_is_the_next():
    [case] = [path for path in CASES if path.name == "inner-quotes"]
    report = check(case / "train.jsonl", None, MAX_LENGTH, None)
    assert found(report) == [(3, "blank-line"), (5, "not-json"), (7, "not-json")]


def test_every_row_whose_roles_are_wrong_is_named_and_the_good_one_passes():
    """smol-course issue 260: "roles must alternate", deep in the training and without a row."""
    [case] = [path for path in CASES if path.name == "role-order"]
    report = check(case / "train.jsonl", None, MAX_LENGTH, None)
    assert found(report) == [(1, "role-order"), (2, "role-order"), (4, "empty-content"), (5, "role")]
    assert report.train.usable == 1


def test_ten_findings_of_a_kind_are_shown_and_the_others_counted(check_text):
    bad = '{"messages": [{"role": "user", "content": "a"}]}\n'
    report = check_text(bad * 1234 + "{}\n")
    assert report.errors == 1235
    assert found(report) == [*((line, "no-assistant") for line in range(1, 11)), (1235, "missing-key")]
    assert report.lines()[-1] == "train.jsonl: error: 1,224 more of the kind no-assistant"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 5000 + "]" * 5000, "begins with '['"),
        ('{"messages": ' + "[" * 100_000 + "]" * 100_000 + "}", "no JSON of a sensible depth and size"),
        ('{"messages": ' + "9" * 5000 + "}", "no JSON of a sensible depth and size"),
    ],
    ids=["array", "deep", "digits"],
)
def test_json_made_to_break_a_reader_is_a_finding(check_text, text, message):
    [finding] = check_text(text + "\n").findings
    assert message in str(finding)


def test_half_a_character_before_a_line_end_is_not_a_cut_off_file(check_text):
    report = check_text('{"messages": "é'.encode()[:-1] + b"\n" + row("a").encode())
    assert found(report) == [(1, "not-utf8")]
    assert "column 15: the byte 0xc3" in report.lines()[0]


def test_a_line_too_long_is_one_finding_and_the_next_row_is_read(check_text, monkeypatch):
    monkeypatch.setattr(dataset_file, "LONGEST_LINE", 2**20)
    report = check_text(row("x" * 3 * 2**20) + row("a"))
    assert found(report) == [(1, "long-line")]
    assert "line has more than 1 MiB" in report.lines()[0]
    assert (report.train.rows, report.train.usable) == (2, 1)


def test_tokens_are_counted_where_something_counts_them(check_text):
    def count(messages):
        return sum(len(message["content"]) for message in messages)

    report = check_text(row("a" * 6) + row("a" * 7), max_length=10, count_tokens=count)
    assert [str(finding) for finding in report.findings] == [
        "train.jsonl:2: error: 11 tokens, but max_length is 10: its end would be cut off; "
        "shorten or split the row, or raise max_length in the recipe"
    ]
    assert report.train.usable == 1
    assert report.train.longest == 10


def test_without_a_tokenizer_a_long_row_is_a_warning_only(check_text):
    report = check_text(row("a" * 36) + row("a" * 37), max_length=10)
    assert found(report) == [(2, "may-be-too-long")]
    assert "about 11 tokens (41 characters), but max_length is 10" in report.lines()[0]
    assert report.ok


def test_a_row_that_the_chat_template_refuses_is_named(check_text):
    def count(messages):
        if messages[0]["role"] == "system":
            raise TemplateError("System role not supported")
        return 1

    system = '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, '
    report = check_text(row("a") + system + '{"role": "assistant", "content": "b"}]}\n', count_tokens=count)
    [finding] = report.findings
    assert finding.line == 2
    assert "chat template refuses the row: System role not supported" in finding.message


def test_the_same_rows_in_both_files_are_all_leaks(check_text):
    rows = "".join(row(f"question {number}") for number in range(30))
    report = check_text(rows, rows)
    assert report.errors == 30
    assert report.findings[0].message == "its prompt is also asked in evaluation.jsonl:1"


def test_a_leak_counts_whatever_the_answer_is(check_text):
    report = check_text(row("a", "b") + row("c", "d"), row("c", "something else"))
    assert found(report) == [(2, "leak")]


def test_a_later_question_of_a_conversation_is_not_the_question_alone(check_text):
    turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"), ("assistant", "So.")]
    messages = [{"role": role, "content": content} for role, content in turns]
    conversation = json.dumps({"messages": messages}) + "\n"
    assert check_text(conversation, row("Why?")).ok
    assert found(check_text(conversation, row("Hi"))) == [(1, "leak")]


def test_of_a_conversation_in_the_evaluation_the_last_question_counts(check_text):
    turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"), ("assistant", "So.")]
    messages = [{"role": role, "content": content} for role, content in turns]
    conversation = json.dumps({"messages": messages}) + "\n"
    assert check_text(row("Hi"), conversation).ok
    assert found(check_text(conversation, conversation)) == [(1, "leak")]


def test_rows_of_the_same_words_in_other_messages_are_other_rows(check_text):
    report = check_text(row("a", "xassistant y") + row("aassistant x", "y"))
    assert found(report) == []


def test_a_character_and_its_parts_are_the_same(check_text):
    assert found(check_text(row("Z\u00fcrich?") + row("Zu\u0308rich?"))) == [(2, "near-duplicate")]


def test_rows_with_errors_are_not_also_duplicates(check_text):
    bad = '{"messages": [{"role": "user", "content": "a"}]}\n'
    assert {kind for _, kind in found(check_text(bad * 2))} == {"no-assistant"}


def test_the_digest_is_what_sha256sum_gives_in_the_directory_of_a_run(check_text):
    report = check_text(row("a"), row("b"))
    sums = subprocess.run(
        ["sha256sum", "train.jsonl", "evaluation.jsonl"], capture_output=True, check=True
    ).stdout
    assert report.digest == hashlib.sha256(sums).hexdigest()
    assert report.train.sha256 == hashlib.sha256(Path("train.jsonl").read_bytes()).hexdigest()


def test_the_digest_tells_every_data_set_from_every_other(check_text):
    given = [(row("a"), None), (row("b"), None), (row("a"), row("b")), (row("b"), row("a"))]
    assert len({check_text(*files).digest for files in given}) == len(given)


def test_only_hashes_stay_in_memory(check_text):
    """A row of 64 KiB leaves no trace of its size."""
    text = "".join(row(f"{number}" + "x" * 2**16) for number in range(200))
    tracemalloc.start()
    check_text(text.encode(), max_length=2**20)
    tracemalloc.clear_traces()
    tracemalloc.reset_peak()
    report = check(Path("train.jsonl"), None, 2**20, None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report.train.usable == 200
    assert peak < 200 * 2**16 / 4


@pytest.mark.parametrize("which", ["train", "evaluation"])
def test_a_file_that_is_not_there_is_named(tmp_path, which):
    there = tmp_path / "there.jsonl"
    there.write_text(row("a"))
    missing = tmp_path / "missing.jsonl"
    files = {"train": there, "evaluation": there, which: missing}
    with pytest.raises(SitewrightError, match=r"missing\.jsonl: there is no file, a JSONL file is wanted"):
        check(files["train"], files["evaluation"], MAX_LENGTH, None)


def test_a_directory_is_no_data_set(tmp_path):
    with pytest.raises(SitewrightError, match="there is a directory, a JSONL file is wanted"):
        check(tmp_path, None, MAX_LENGTH, None)


@pytest.mark.parametrize(
    "given",
    [
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"prompt": "a", "completion": "b"},
        {"instruction": "a", "input": "", "output": "b"},
        {"instruction": "a", "output": "b"},
    ],
    ids=lambda given: next(iter(given)),
)
def test_the_advice_for_another_form_makes_a_good_data_set(check_text, given):
    report = check_text(json.dumps(given) + "\n")
    [finding] = report.findings
    command = finding.fix.removeprefix("convert the file: ")
    subprocess.run(command, shell=True, check=True)
    mended = check(Path("mended.jsonl"), None, MAX_LENGTH, None)
    assert (mended.ok, mended.train.usable) == (True, 1)
    assert json.loads(Path("mended.jsonl").read_text()) == json.loads(row("a", "b"))


@pytest.mark.parametrize("name", ["byte-order-mark-and-blank-line", "windows-line-ends"])
def test_the_advice_for_the_encoding_works(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    [case] = [path for path in CASES if path.name == name]
    shutil.copy(case / "train.jsonl", tmp_path)
    [command] = [
        one.fix.partition(": ")[2]
        for one in check(Path("train.jsonl"), None, MAX_LENGTH, None).findings
        if one.kind in ("bom", "crlf")
    ]
    subprocess.run(command, shell=True, check=True)
    report = check(Path("train.jsonl"), None, MAX_LENGTH, None)
    assert {kind for _, kind in found(report)} <= {"blank-line"}
