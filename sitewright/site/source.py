"""YAML into a tree that remembers where every key and value was written.

The tree is composed with ruamel.yaml and not constructed: a construct would lose the position
of scalars and would silently resolve what an operator should hear about (dates, `yes`, tags).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ruamel.yaml
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sitewright.site.problems import Loc, Position, Problem

_TAG = "tag:yaml.org,2002:"


class Text(str):
    """A string of a site file that knows its file: relative paths are meant relative to it."""

    __slots__ = ("file",)
    file: Path


@dataclass
class Tree:
    """One value. `content` is a scalar, a list of trees, or a mapping of key to tree."""

    position: Position
    content: Any
    keys: dict[str, Position] = field(default_factory=dict)

    def plain(self) -> Any:
        """The value as plain data; strings are `Text`."""
        if isinstance(self.content, dict):
            return {key: child.plain() for key, child in self.content.items()}
        if isinstance(self.content, list):
            return [child.plain() for child in self.content]
        return self.content

    def find(self, loc: Loc) -> tuple[Position, bool]:
        """Position of loc, or of the nearest thing around it that was written, and whether loc itself was."""
        tree, position = self, self.position
        for part in loc:
            content = tree.content
            if isinstance(content, dict) and part in content:
                position, tree = tree.keys[str(part)], content[part]
            elif isinstance(content, list) and isinstance(part, int) and part < len(content):
                tree = content[part]
                position = tree.position
            else:
                return position, False
        return position, True


def merge(base: Tree, over: Tree) -> Tree:
    """`over` on top of `base`: mappings merge key by key, everything else is replaced."""
    if not (isinstance(base.content, dict) and isinstance(over.content, dict)):
        return over
    content, keys = dict(base.content), dict(base.keys)
    for key, child in over.content.items():
        content[key] = merge(content[key], child) if key in content else child
        keys[key] = over.keys[key]
    return Tree(over.position, content, keys)


def parse(path: Path, problems: list[Problem]) -> Tree | None:
    """The tree of one file; None, with the reason in problems, where there is none."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.append(Problem(Position(path, 1, 1), (), f"not UTF-8: byte {error.start} is {error.reason}"))
        return None
    except OSError as error:
        problems.append(Problem(Position(path, 1, 1), (), f"cannot be read: {error.strerror}"))
        return None
    try:
        root = ruamel.yaml.YAML(typ="safe", pure=True).compose(text)
    except ruamel.yaml.error.MarkedYAMLError as error:
        problems.append(_syntax_problem(path, text, error))
        return None
    except ruamel.yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"the control character U+{ord(text[error.position]):04X} is not allowed in YAML; remove it"
        problems.append(Problem(Position(path, line, 1), (), message))
        return None
    except ruamel.yaml.error.YAMLError as error:
        problems.append(Problem(Position(path, 1, 1), (), f"not YAML: {error}"))
        return None
    return _Builder(path, problems).root(root)


def _syntax_problem(path: Path, text: str, error: Any) -> Problem:
    mark = error.problem_mark or error.context_mark
    position = Position(path, mark.line + 1, mark.column + 1)
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: mark.column + 1]:
        return Problem(
            position, (), "a tab character; YAML is indented with spaces, replace the tab by spaces"
        )
    started = f" that starts in line {error.context_mark.line + 1}" if error.context_mark else ""
    context = f" ({error.context}{started})" if error.context else ""
    return Problem(position, (), f"not YAML: {error.problem}{context}")


class _Builder:
    """Turns composed nodes into trees and notes what YAML allows and a site file does not."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path, self.problems = path, problems

    def root(self, node: Node | None) -> Tree | None:
        if node is None:
            self.problems.append(Problem(Position(self.path, 1, 1), (), "the file is empty"))
            return None
        if not isinstance(node, MappingNode):
            self._note(node, (), "a site file is a mapping of keys; this one starts with something else")
            return None
        return self.tree(node, ())

    def tree(self, node: Node, loc: Loc) -> Tree:
        if isinstance(node, MappingNode):
            return self._mapping(node, loc)
        if isinstance(node, SequenceNode):
            items = [self.tree(item, (*loc, index)) for index, item in enumerate(node.value)]
            return Tree(self._position(node), items)
        return Tree(self._position(node), self._scalar(node, loc))

    def _mapping(self, node: MappingNode, loc: Loc) -> Tree:
        tree = Tree(self._position(node), {})
        for key_node, value_node in node.value:
            if str(key_node.tag) == f"{_TAG}merge":
                self._note(key_node, loc, "`<<` is not supported; share values with `extends:`")
                continue
            if not isinstance(key_node, ScalarNode):
                self._note(key_node, loc, "a key must be a plain word")
                continue
            key = str(key_node.value)
            if key in tree.content:
                first = tree.keys[key]
                self._note(
                    key_node, (*loc, key), f"the key is there twice; the first is in line {first.line}"
                )
                continue
            tree.keys[key] = self._position(key_node)
            tree.content[key] = self.tree(value_node, (*loc, key))
        return tree

    def _scalar(self, node: Node, loc: Loc) -> Any:
        tag, text = str(node.tag), node.value
        if tag == f"{_TAG}null":
            return None
        if tag in _SCALARS:
            try:
                return _SCALARS[tag](text)
            except ValueError:
                self._note(node, loc, f"{text!r} is not a {tag.removeprefix(_TAG)}")
                return None
        if tag not in (f"{_TAG}str", f"{_TAG}timestamp"):
            self._note(node, loc, f"the YAML tag {tag} is not supported; write a plain value")
        value = Text(text)
        value.file = self.path
        return value

    def _position(self, node: Node) -> Position:
        return Position(self.path, node.start_mark.line + 1, node.start_mark.column + 1)

    def _note(self, node: Node, loc: Loc, message: str) -> None:
        self.problems.append(Problem(self._position(node), loc, message))


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    return int(digits, 0) if digits.lstrip("+-").lower().startswith(("0x", "0o")) else int(digits)


def _float(text: str) -> float:
    return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: dict[str, Callable[[str], Any]] = {
    f"{_TAG}bool": lambda text: text.lower() == "true",
    f"{_TAG}int": _integer,
    f"{_TAG}float": _float,
}
