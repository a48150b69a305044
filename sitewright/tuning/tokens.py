"""How many tokens a row has, as the training program will count it, before a GPU is asked for.

The same tokenizer and the same chat template, read from the model's own files, without the model.
"""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from sitewright.errors import SitewrightError
from sitewright.tuning.dataset_rows import Messages

TOKENIZER, SETTINGS, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"


def counter(model: Path) -> Callable[[Messages], int]:
    """Counts the tokens of a row with the tokenizer of the model in that directory.

    What it returns raises TemplateError for a row that the template refuses, or whose earlier turns it rewrites.
    Raises: SitewrightError when a file of the model is missing or damaged, or it has no chat template.
    """
    try:
        tokenizer = Tokenizer.from_file(str(model / TOKENIZER))
        settings = json.loads((model / SETTINGS).read_text(encoding="utf-8"))
        file = model / TEMPLATE
        source = file.read_text(encoding="utf-8") if file.is_file() else settings.get("chat_template")
    except Exception as error:  # tokenizers raises nothing narrower
        raise SitewrightError(f"{model}: its tokenizer cannot be read: {error}") from error
    if not isinstance(source, str):
        raise SitewrightError(f"{model}: it has no chat template", "Rows of messages need one.")
    render = _renderer(source, settings)

    def count(messages: Messages) -> int:
        pieces = _pieces(render, messages)
        return sum(len(tokenizer.encode(piece, add_special_tokens=False).ids) for piece in pieces)

    return count


def _pieces(render: Callable[[Messages, bool], str], messages: Messages) -> list[str]:
    """What is asked and what is answered, in turns: what is learnt is tokenized apart from what is not."""
    done = ""
    pieces = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked, answered = render(messages[:index], True), render(messages[: index + 1], False)
        if not (asked.startswith(done) and answered.startswith(asked)):
            raise TemplateError("it rewrites earlier turns; use rows of one turn")
        pieces += [asked[len(done) :], answered[len(asked) :]]
        done = answered
    return pieces


def _renderer(source: str, settings: dict[str, Any]) -> Callable[[Messages, bool], str]:
    """A chat template as transformers runs it: a sandbox, since it comes with the model. Source: transformers,
    utils/chat_template_utils.py."""
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    sandbox.filters["tojson"] = lambda value, **more: json.dumps(value, ensure_ascii=False, **more)
    sandbox.globals.update(raise_exception=_refuse, strftime_now=lambda form: datetime.now().strftime(form))
    special = {name: _text(value) for name, value in settings.items() if name.endswith("_token")}
    template = sandbox.from_string(source)

    def render(messages: Messages, generation: bool) -> str:
        return template.render(messages=messages, add_generation_prompt=generation, **special)

    return render


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _text(token: Any) -> str:
    """A special token is written as its text, or as a mapping with it."""
    return str(token.get("content", "") if isinstance(token, dict) else token or "")
