"""Changes a command makes to a site file: the lines it is about, and no other character.

A round trip through a YAML library would lay out the whole file anew; what an operator wrote stays as he wrote it.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import ruamel.yaml
import yaml
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from sitewright.errors import SitewrightError
from sitewright.site.files import display
from sitewright.site.load import load
from sitewright.site.problems import Loc, SiteFileError


def has(text: str, loc: Loc) -> bool:
    """Whether something is written at `loc` in this very file."""
    return _find(text, loc) is not None


def with_value(text: str, loc: Loc, value: Any) -> str:
    """The text of a site file with `value` at `loc`, whose parent is there as an indented mapping.

    Comments inside the old value go with it. Raises: SitewrightError where the parent is not there or is written in
    one line.
    """
    parent = _block(text, loc[:-1])
    for key, old in parent.value:
        if key.value == loc[-1]:
            return text[: key.end_mark.index] + _entry(value, _column(key)) + text[_end(old) :]
    column = _column(parent.value[0][0])
    return _with_line(text, _end(parent), f"{' ' * column}{loc[-1]}{_entry(value, column)}")


def with_item(text: str, loc: Loc, item: Any) -> str:
    """The same with one more item in the list at `loc`, which is made where it is not there."""
    found = _find(text, loc)
    if not isinstance(found, SequenceNode) or not found.value:
        return with_value(text, loc, [item])
    if found.flow_style:
        raise _in_one_line(loc)
    dash = found.start_mark.column
    return _with_line(text, _end(found), _dumped([item], dash))


def write(path: Path, text: str) -> None:
    """Replace a site file by a text that makes a valid site. Raises: SiteFileError where it does not; the file is as
    before then."""
    before = path.read_text(encoding="utf-8")
    _replace(path, text)
    try:
        load(path)
    except SiteFileError:
        _replace(path, before)
        raise


def _replace(path: Path, text: str) -> None:
    descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).chmod(path.stat().st_mode)
        Path(scratch).replace(path)
    except OSError as error:
        Path(scratch).unlink(missing_ok=True)
        raise SitewrightError(f"{display(path)}: {error.strerror or error}; it is as it was") from error


def _block(text: str, loc: Loc) -> MappingNode:
    found = _find(text, loc)
    if not isinstance(found, MappingNode) or not found.value:
        raise SitewrightError(
            f"{'.'.join(map(str, loc))} is not in this file",
            "It may be in a file that this one extends; a command changes only the file of the environment.",
        )
    if found.flow_style:
        raise _in_one_line(loc)
    return found


def _in_one_line(loc: Loc) -> SitewrightError:
    return SitewrightError(
        f"{'.'.join(map(str, loc))} is written in one line", "Write it with one key per line, then repeat."
    )


def _find(text: str, loc: Loc) -> Node | None:
    node = ruamel.yaml.YAML(typ="safe", pure=True).compose(text)
    for part in loc:
        if isinstance(node, MappingNode):
            node = next((value for key, value in node.value if key.value == part), None)
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            return None
    return node


def _end(node: Node) -> int:
    """Where the last thing in it ends. The mark of an indented collection is where the next one begins."""
    if isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _column(node: Node) -> int:
    return int(node.start_mark.column)


def _with_line(text: str, after: int, line: str) -> str:
    """A line of its own after the one of that place, with what is behind it there."""
    newline = text.find("\n", after)
    if newline < 0:
        return f"{text}\n{line}\n"
    return f"{text[: newline + 1]}{line}\n{text[newline + 1 :]}"


def _entry(value: Any, column: int) -> str:
    """What follows a key in that column."""
    text = _dumped(value, 0)
    if "\n" in text or text.startswith("- "):
        return ":\n" + _dumped(value, column + 2)
    return f": {text}"


def _dumped(value: Any, indent: int) -> str:
    text = yaml.dump(value, Dumper=_Indented, default_flow_style=None, sort_keys=False, width=10_000)
    text = text.removesuffix("...\n").removesuffix("\n")
    return "\n".join(" " * indent + line for line in text.splitlines())


class _Indented(yaml.SafeDumper):
    """Lists stand two columns to the right of their key, as everywhere in site files."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)
