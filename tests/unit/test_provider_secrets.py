"""Values on their way from the engine to Ansible, and secrets on their way to nowhere."""

from __future__ import annotations

import base64
import json
import stat
import urllib.parse
from pathlib import Path

import pytest
import yaml
from pulumi.provider.experimental.property_value import PropertyValue

from sitewright.provider import variables
from sitewright.provider.redact import HIDDEN, Redactor
from sitewright.provider.values import plain, secret_texts, to_property

SECRET = "pa$$ 'word' \"42\"\\/é"


def test_whole_numbers_are_integers() -> None:
    assert plain(to_property({"a": 1, "b": [2.5, True, None]})) == {"a": 1, "b": [2.5, True, None]}
    assert isinstance(plain(PropertyValue(3.0)), int)


def test_secrets_are_found_at_any_depth() -> None:
    nested = PropertyValue(
        {"a": PropertyValue([PropertyValue("deep", is_secret=True)]), "b": PropertyValue("open")}
    )
    whole = to_property({"x": {"y": ["one", 22, True]}}, secret=True)
    assert list(secret_texts(nested)) == ["deep"]
    assert list(secret_texts(whole)) == ["one", "22"]


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        repr(SECRET),
        urllib.parse.quote(SECRET),
        urllib.parse.quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
        "'" + SECRET.replace("'", "'\"'\"'") + "'",
    ],
)
def test_a_secret_is_hidden_in_every_spelling(spelling: str) -> None:
    shown = Redactor([SECRET])(f"before {spelling} after")
    assert HIDDEN in shown
    assert "word" not in shown and "42" not in shown
    assert shown.startswith("before ") and shown.endswith(" after")


def test_each_line_of_a_key_is_hidden_but_common_lines_are_not() -> None:
    key = "apiVersion: v1\n  client-key-data: QUJDREVGR0hJSktMTU5P\n"
    redact = Redactor([key])
    assert redact("client-key-data: QUJDREVGR0hJSktMTU5P") == HIDDEN
    assert redact("apiVersion: v1") == "apiVersion: v1"


def test_the_longer_secret_is_hidden_whole() -> None:
    assert Redactor(["secret", "secret-and-more"])("a secret-and-more b") == f"a {HIDDEN} b"


def test_short_texts_are_no_secrets() -> None:
    assert Redactor(["1", "on", ""])("1 is on") == "1 is on"


def test_data_is_redacted_with_its_keys_and_stays_data() -> None:
    assert Redactor(["hush!"]).data({"hush!": ["a hush! b", 5]}) == {HIDDEN: [f"a {HIDDEN} b", 5]}


def test_variables_are_written_for_the_owner_only_and_read_back_the_same(tmp_path: Path) -> None:
    class Loader(yaml.SafeLoader):
        """Reads `!unsafe` as Ansible does: a text that is no template."""

    Loader.add_constructor("!unsafe", lambda loader, node: "unsafe " + node.value)
    values = {"text": 'a: "b"\n- c', "odd": "\u2028\x85\x00é😀\t", "n": 5, "list": [1.5, None, {"k": True}]}
    path = tmp_path / "env" / "extravars"
    variables.write(path, {**values, "template": "{{ lookup('pipe', 'rm') }}"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    read = yaml.load(path.read_text(), Loader)
    assert read == {**values, "template": "unsafe {{ lookup('pipe', 'rm') }}"}
