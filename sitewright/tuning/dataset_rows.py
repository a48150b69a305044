"""One row of a data set: `{"messages": [{"role": ..., "content": ...}, ...]}`, the chat form of trl."""

import json
from collections.abc import Iterator
from typing import Any, Literal, NoReturn

from pydantic import Field, ValidationError

from sitewright.site.fields import Model
from sitewright.site.messages import explain
from sitewright.site.problems import dotted
from sitewright.tuning.dataset_file import Line, cut_off
from sitewright.tuning.findings import Fault

Messages = list[dict[str, str]]


class Message(Model):
    role: Literal["system", "user", "assistant"]
    content: str


class Row(Model):
    messages: list[Message] = Field(min_length=1)


_EXAMPLE = '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'
_OURS = ("system", "user", "assistant")
_ROLES = {
    **dict.fromkeys(("ai", "bot", "chatbot", "gpt", "model"), "assistant"),
    **dict.fromkeys(("human", "prompter"), "user"),
    "developer": "system",
}
"""What others call the roles."""

_OTHER_FORMS = {
    ("conversations",): 'jq -c \'{messages: [.conversations[] | {role: {human: "user", gpt: "assistant", '
    'system: "system"}[.from], content: .value}]}\' FILE > mended.jsonl',
    ("prompt", "completion"): 'jq -c \'{messages: [{role: "user", content: .prompt}, {role: "assistant", '
    "content: .completion}]}' FILE > mended.jsonl",
    ("instruction", "output"): 'jq -c \'{messages: [{role: "user", content: ([.instruction, .input // ""] | '
    'map(select(. != "")) | join("\\n\\n"))}, {role: "assistant", content: .output}]}\' FILE > mended.jsonl',
}
"""Keys of other common forms of data sets, and the command that makes the wanted form of them."""


def messages_of(line: Line) -> tuple[Messages | None, list[Fault]]:
    """The messages of a row, None where it cannot be used, and what is wrong with it."""
    if line.text is None:
        return None, []
    try:
        data = _JSON.decode(line.text)
    except json.JSONDecodeError as error:
        return None, [_broken(line, error)]
    except (RecursionError, ValueError) as error:
        # RecursionError: lists in lists; ValueError: besides _Refused, whole numbers of over 4,300 digits.
        message = str(error) if isinstance(error, _Refused) else "no JSON of a sensible depth and size"
        return None, [Fault("not-json", message, "mend the row")]
    try:
        Row.model_validate(data)
    except ValidationError as error:
        return None, list(_wrong_shape(data, error))
    messages: Messages = data["messages"]
    faults = [*_contents(messages), *_order([message["role"] for message in messages])]
    return (None if any(fault.severity == "error" for fault in faults) else messages), faults


class _Refused(ValueError):
    """JSON that Python's reader takes and others do not, or read differently."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Refused(f"the key {twice!r} is there twice in one object; which of them counts is not defined")
    return found


def _no_number(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number)


def _broken(line: Line, error: json.JSONDecodeError) -> Fault:
    text = line.text or ""
    if not line.ended and (error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")):
        return cut_off(len(text))
    rest = text[error.pos : error.pos + 20]
    if error.msg == "Extra data":
        message = f"column {error.colno}: after the row there is more, found {rest!r}"
        return Fault("not-json", message, "put each row on a line of its own")
    reason = error.msg[0].lower() + error.msg[1:]
    message = f"column {error.colno}: not JSON: {reason}, {f'found {rest!r}' if rest else 'the line ends'}"
    fix = 'inside a text a quote is \\" and a line end is \\n; write rows with json.dumps, one per line'
    return Fault("not-json", message, fix)


def _wrong_shape(data: Any, error: ValidationError) -> Iterator[Fault]:
    if not isinstance(data, dict):
        yield Fault("wrong-type", f"the row is no object but {_named(data)}", f"write {_EXAMPLE}")
        return
    if "messages" not in data:
        for keys, command in _OTHER_FORMS.items():
            if all(key in data for key in keys):
                message = f"the row has {' and '.join(keys)}; messages is wanted"
                yield Fault("other-form", message, f"convert the file: {command}")
                return
    for fault in error.errors():
        yield _shape_fault(fault)


def _shape_fault(fault: Any) -> Fault:
    place = dotted(tuple(fault["loc"]))
    message = f"{place}: {explain(fault, Row)}"
    if fault["type"] == "extra_forbidden":
        return Fault(
            "unknown-key", message, "mend or remove it: it would be left out of the training without a word"
        )
    if fault["type"] == "missing":
        return Fault("missing-key", message, f"write {_EXAMPLE}")
    if fault["type"] == "literal_error":
        role = str(fault["input"]).strip().lower()
        meant = role if role in _OURS else _ROLES.get(role)
        fix = (
            f"write {meant}"
            if meant
            else "calls of tools and other roles cannot be trained here, leave the row out"
        )
        return Fault("role", message, fix)
    if isinstance(fault["input"], list) and place.endswith("content"):
        return Fault("wrong-type", message, "join the parts to one text; only text can be trained here")
    return Fault("wrong-type", message, f"write {_EXAMPLE}")


def _contents(messages: Messages) -> Iterator[Fault]:
    for index, message in enumerate(messages):
        content, place = message["content"], f"messages[{index}].content"
        if not content.strip():
            what = f"{place} of the {message['role']} is empty"
            yield Fault("empty-content", what, "fill it, or remove the row")
        elif not content.isascii():
            yield from _characters(content, place)


def _characters(content: str, place: str) -> Iterator[Fault]:
    half = next((char for char in content if "\ud800" <= char <= "\udfff"), None)
    if half:
        what = f"{place} holds half a character, \\u{ord(half):04x}; no tokenizer takes it"
        yield Fault("half-character", what, "write both halves of the pair, or the character itself in UTF-8")
    elif "\ufffd" in content:
        what = f"{place} holds U+FFFD, which stands where an earlier conversion lost a character"
        yield Fault("lost-character", what, "make the row anew from its source", "warning")


def _order(roles: list[str]) -> Iterator[Fault]:
    """Templates of chats refuse a wrong order with "roles must alternate", deep in the training."""
    if "assistant" not in roles:
        yield Fault(
            "no-assistant",
            "no message of the assistant: nothing to learn",
            "add the answer, or remove the row",
        )
        return
    turns = "the order is system (or not), then user and assistant in turn, assistant last"
    for index, role in enumerate(roles):
        before = roles[index - 1] if index else None
        if role == "system" and index:
            yield Fault("role-order", f"messages[{index}] is system, which comes first or not at all", turns)
            return
        if role == "assistant" and before in (None, "system"):
            yield Fault("role-order", f"messages[{index}] is assistant, but the user speaks first", turns)
            return
        if role == before:
            fix = f"{turns}; join both messages or remove the row"
            yield Fault("role-order", f"messages[{index}] is {role} after {role}", fix)
            return
    if roles[-1] == "user":
        fix = "remove this message, or add the answer"
        yield Fault("role-order", f"messages[{len(roles) - 1}], the last, is user: nothing answers it", fix)


def _named(data: Any) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(data), "a number")
