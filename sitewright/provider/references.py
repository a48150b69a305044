"""What one YAML file of Ansible refers to: roles, task files, templates, files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_LOOKUP = re.compile(
    r"""(?:lookup|query|q)\(\s*['"](?:ansible\.builtin\.)?(?:file|template|fileglob)['"]\s*,\s*([^)]+)\)"""
)
_WORD = re.compile(r"""[^\s"'`=,;|&<>()\[\]]+""")

_TASK_FILES = frozenset({"import_tasks", "include_tasks", "vars_files", "include_vars"})
_ROLE_ACTIONS = frozenset({"import_role", "include_role"})
_TARGETS = frozenset({"dest", "path", "creates", "removes", "chdir"})
"""Keys whose value is written or looked at on the host: never a source, even if it lies in the checkout."""

_DIRECTORIES = frozenset({"src", "dir"})
"""Keys whose value may name a directory, all of which is meant."""


@dataclass(frozen=True)
class Reference:
    """kind: role; playbook (relative to the file); required (a file of tasks or variables, must exist);
    possible (a file or directory that counts if it exists); word (a file that counts if it exists).
    text: a name or path, with `*` where only the play knows; line: from 1."""

    kind: str
    text: str
    line: int


def references(text: str, known: Mapping[str, str]) -> list[Reference]:
    """All references of a playbook, task file or role's meta file, in the order of the file.

    known: variables whose value is known beforehand; every other one becomes `*`.
    Raises: yaml.YAMLError.
    """
    found: dict[Reference, None] = {}
    for document in yaml.compose_all(text, Loader=_LOADER):
        for reference in _walk(document, known):
            found[reference] = None
    return list(found)


_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _walk(node: yaml.Node | None, known: Mapping[str, str]) -> Iterator[Reference]:
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _walk(child, known)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = str(key.value).removeprefix("ansible.builtin.").removeprefix("ansible.legacy.")
            if name not in _TARGETS:
                yield from _entry(name, value, known)
                yield from _walk(value, known)
    elif isinstance(node, yaml.ScalarNode):
        yield from _in_text(node, known)


def _entry(name: str, value: yaml.Node, known: Mapping[str, str]) -> Iterator[Reference]:
    """References that the meaning of a key gives away."""
    if name in ("roles", "dependencies") and isinstance(value, yaml.SequenceNode):
        for role in value.value:
            yield from _role(role, known)
    elif name in _ROLE_ACTIONS:
        yield from _role(value, known)
    elif name == "import_playbook":
        yield from (Reference("playbook", text, line) for text, line in _paths(value, known))
    elif name in _TASK_FILES:
        yield from (Reference("required", text, line) for text, line in _paths(value, known))
    elif name in _DIRECTORIES:
        yield from (Reference("possible", text, line) for text, line in _paths(value, known))


def _role(node: yaml.Node, known: Mapping[str, str]) -> Iterator[Reference]:
    """A role by name, `role:` or `name:`, or in the old form `include_role: name=…`."""
    if isinstance(node, yaml.ScalarNode):
        name = re.search(r"name=(\S+)", node.value)
        text = _known(name.group(1) if name else node.value, known)
        if text:
            yield Reference("role", text, node.start_mark.line + 1)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value in ("role", "name") and isinstance(value, yaml.ScalarNode):
                yield Reference("role", _known(value.value, known), value.start_mark.line + 1)
                return


def _paths(node: yaml.Node, known: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """The paths in a value: a text, a list of them, or a mapping with `file:` or `dir:`."""
    if isinstance(node, yaml.ScalarNode):
        file = re.search(r"(?:^|\s)file=(\S+)", node.value)
        text = _known(file.group(1) if file else node.value.strip(), known)
        if text.strip("./*"):
            yield text, node.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _paths(child, known)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value in ("file", "dir"):
                yield from _paths(value, known)


def _in_text(node: yaml.ScalarNode, known: Mapping[str, str]) -> Iterator[Reference]:
    """Words of a text that may be paths of files, and what `lookup('file', …)` reads."""
    line = node.start_mark.line + 1
    for lookup in _LOOKUP.finditer(node.value):
        expression = re.sub(r"""['"]|\s*[~+]\s*""", "", lookup.group(1))
        for name, value in known.items():
            expression = re.sub(rf"\b{name}\b", value, expression)
        yield Reference("possible", expression, line)
    if len(node.value) > 20_000:
        return
    for word in _WORD.findall(_known(node.value, known)):
        if "*" not in word and ("." in word.strip(".") or "/" in word):
            yield Reference("word", word, line)


def _known(text: str, known: Mapping[str, str]) -> str:
    """The text with templates replaced: by their value where it is known, by `*` otherwise."""

    def value(match: re.Match[str]) -> str:
        return known.get(match.group(0)[2:-2].strip(), "*")

    return re.sub(r"\*+", "*", _TEMPLATE.sub(value, text))
