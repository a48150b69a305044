"""Tokens of a row as the model's own tokenizer and template count them."""

import pytest
from click.testing import CliRunner
from jinja2 import TemplateError

from sitewright.cli import main
from sitewright.errors import SitewrightError
from sitewright.tuning.tokens import counter
from tests.tokenizer import TEMPLATE, tokenizer_of_words


def talk(*turns: str) -> list[dict[str, str]]:
    return [
        {"role": ("user", "assistant")[place % 2], "content": content} for place, content in enumerate(turns)
    ]


def test_every_word_counts_with_those_of_the_template(tmp_path):
    count = counter(tokenizer_of_words(tmp_path / "m"))
    assert count(talk("How high?", "4806 m")) == 8  # user How high? </s> assistant 4806 m </s>
    assert count(talk("a", "b", "c", "d e")) == 13


def test_a_template_in_a_file_of_its_own_comes_first(tmp_path):
    model = tokenizer_of_words(tmp_path / "m", template=None)
    with pytest.raises(SitewrightError, match="it has no chat template"):
        counter(model)
    (model / "chat_template.jinja").write_text(TEMPLATE)
    assert counter(model)(talk("a", "b")) == 6


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        (
            "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
            "rewrites earlier turns",
        ),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_a_template_that_refuses_says_why(tmp_path, template, why):
    count = counter(tokenizer_of_words(tmp_path / "m", template))
    with pytest.raises(TemplateError, match=why):
        count(talk("a", "b", "c", "d"))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe"])
def test_a_model_whose_tokenizer_cannot_be_read_is_named(tmp_path, name, content):
    model = tokenizer_of_words(tmp_path / "m")
    (model / name).unlink() if content is None else (model / name).write_bytes(content)
    with pytest.raises(SitewrightError, match=f"{model}: its tokenizer cannot be read"):
        counter(model)


def test_a_row_that_is_too_long_is_an_error_where_the_tokenizer_is_at_hand(tmp_path):
    (tmp_path / "t.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "a b c"}, {"role": "assistant", "content": "d"}]}\n'
    )
    words = ["tune", "check", str(tmp_path / "t.jsonl"), "--max-length", "7"]
    assert CliRunner().invoke(main, words).exit_code == 0
    words += ["--tokenizer", str(tokenizer_of_words(tmp_path / "m"))]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "8 tokens, but max_length is 7" in done.output
