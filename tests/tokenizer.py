"""A model's tokenizer as it lies beside the weights, small enough to count by hand."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role }} {{ message.content }} {{ eos_token }} "
    "{% endfor %}{% if add_generation_prompt %}assistant {% endif %}"
)


def tokenizer_of_words(directory: Path, template: str | None = TEMPLATE) -> Path:
    """A token for every word, as blanks separate them. Returns the directory."""
    directory.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"bos_token": None, "eos_token": {"content": "</s>"}, "chat_template": template}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory
