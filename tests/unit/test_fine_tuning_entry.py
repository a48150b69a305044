"""The parts of the training program that need no torch: which checkpoint is whole, and what is learnt of a row."""

import json

import pytest

from modules.tuning import fine_tuning_data as data
from modules.tuning import fine_tuning_entry as entry
from modules.tuning import fine_tuning_files as files


@pytest.fixture
def checkpoints(tmp_path):
    """Three whole checkpoints; 100 is the newest, though not in the order of names."""
    for step in (20, 80, 100):
        made = tmp_path / f"checkpoint-{step}"
        made.mkdir()
        (made / "trainer_state.json").write_text("{}")
        (made / "optimizer.pt").write_bytes(bytes(10))
        files.write(made / files.FILES, files.digests(made))
    return tmp_path


def test_the_newest_whole_checkpoint_is_taken(checkpoints):
    assert files.newest_whole(checkpoints).name == "checkpoint-100"


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda made: (made / files.FILES).unlink(), "not written to its end"),
        (lambda made: (made / files.FILES).write_text('{"trainer_state'), files.FILES),
        (lambda made: (made / "optimizer.pt").write_bytes(bytes(9)), "optimizer.pt is not as it was written"),
        (lambda made: (made / "optimizer.pt").unlink(), "optimizer.pt is missing"),
        (lambda made: (made / files.FILES).write_text("{}"), "trainer_state.json is missing"),
    ],
)
def test_one_that_is_not_whole_is_left_out_and_named(checkpoints, capsys, harm, says):
    harm(checkpoints / "checkpoint-100")
    assert files.newest_whole(checkpoints).name == "checkpoint-80"
    printed = capsys.readouterr().out
    assert "checkpoint-100 is left out" in printed
    assert says in printed


def test_without_any_the_run_begins_anew(tmp_path):
    assert files.newest_whole(tmp_path) is None


class Tokenizer:
    """One token per character; a chat template that puts an initial before each turn."""

    def apply_chat_template(self, messages, tokenize, add_generation_prompt=False):
        said = "".join(f"{message['role'][0]}{message['content']};" for message in messages)
        return said + "a" * add_generation_prompt

    def encode(self, text, add_special_tokens):
        return [ord(letter) for letter in text]


def test_only_what_the_assistant_says_is_learnt():
    turns = [("user", "x"), ("assistant", "1"), ("user", "y"), ("assistant", "2")]
    ids, labels = data.tokens(Tokenizer(), [{"role": role, "content": said} for role, said in turns])
    assert "".join(map(chr, ids)) == "ux;a1;uy;a2;"
    learnt = "".join("_" if label == data.IGNORED else chr(label) for label in labels)
    assert learnt == "____1;____2;"


def test_a_row_that_is_too_long_is_named(tmp_path):
    row = {"messages": [{"role": "user", "content": "x" * 9}, {"role": "assistant", "content": "y"}]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(files.HopelessError, match=r"train.jsonl: row 1 is 14 tokens long, max_length is 13"):
        data.encoded(Tokenizer(), tmp_path / "train.jsonl", 13)


def test_a_second_pod_is_refused(tmp_path):
    with (
        files.alone_in(tmp_path),
        pytest.raises(files.HopelessError, match="another pod"),
        files.alone_in(tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(28, "No space left on device"), entry.HOPELESS),
        (OSError(5, "Input/output error"), entry.BROKEN),
        (RuntimeError("what nobody thought of"), entry.BROKEN),
        (files.HopelessError("a reason"), entry.HOPELESS),
    ],
)
def test_only_what_is_hopeless_ends_the_run(tmp_path, monkeypatch, capsys, error, status):
    def fails(*_):
        raise error

    monkeypatch.setattr(entry, "train", fails)
    (tmp_path / "request.json").write_text("{}")
    assert entry.main(tmp_path) == status
    assert str(error.args[-1]) in capsys.readouterr().err
