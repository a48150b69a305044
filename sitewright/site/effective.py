"""The effective site file: what was written, merged and filled up with the defaults."""

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from sitewright.site.load import Loaded
from sitewright.site.problems import Loc
from sitewright.site.source import Tree

_COLUMN = 64  # where the origins start


def as_yaml(loaded: Loaded, origin: bool = False) -> str:
    """The effective file as YAML, itself a valid site file.

    Paths are absolute, sizes in the largest binary unit. Keys without a value are left out.
    origin: end each line with the place that says so, or `default`.
    """
    data = loaded.site.model_dump(mode="json", exclude_none=True)
    writer = YAML()
    writer.width = 10_000
    writer.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    writer.dump(_commented(data, loaded.tree if origin else None, ()), stream)
    return stream.getvalue()


def _commented(data: Any, tree: Tree | None, loc: Loc) -> Any:
    """The data with a comment behind each value that is written on one line."""
    if isinstance(data, dict) and data:
        mapping = CommentedMap()
        for key, value in data.items():
            mapping[key] = _commented(value, tree, (*loc, key))
            if tree is not None and not _is_block(value):
                mapping.yaml_add_eol_comment(_origin(tree, (*loc, key)), key, column=_COLUMN)
        return mapping
    if isinstance(data, list) and data:
        sequence = CommentedSeq()
        for index, value in enumerate(data):
            sequence.append(_commented(value, tree, (*loc, index)))
            if tree is not None and not _is_block(value):
                sequence.yaml_add_eol_comment(_origin(tree, (*loc, index)), index, column=_COLUMN)
        return sequence
    return data


def _is_block(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


def _origin(tree: Tree, loc: Loc) -> str:
    position, written = tree.find(loc)
    return str(position) if written else "default"
