"""Refusals of pydantic as sentences, for models other than the site file."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

from sitewright.site import messages
from sitewright.site.problems import Loc, did_you_mean

_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "above"),
    "less_than": ("lt", "below"),
}


def explain(fault: Any, root: type[BaseModel], not_offered: Mapping[str, str] | None = None) -> str:
    """One fault of `ValidationError.errors()` of the model `root` as a person reads it.

    not_offered: keys that other tools know, and why they are not offered here.
    """
    kind, loc = fault["type"], tuple(fault["loc"])
    if kind == "missing":
        description = _field(root, loc)
        return "REQUIRED, and not there" + (f": {description}" if description else "")
    if kind == "extra_forbidden":
        key = str(loc[-1])
        if not_offered and key in not_offered:
            return f"not offered: {not_offered[key]}"
        model = _model_at(root, loc[:-1])
        return f"unknown key{did_you_mean(key, model.model_fields if model else ())}"
    if kind in _BOUNDS:
        limit, words = _BOUNDS[kind]
        bound = fault["ctx"][limit]
        shown = f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"
        return f"{fault['input']} is not allowed; it must be {words} {shown}"
    if kind == "float_type":
        found = fault["input"]
        return f"a number is wanted, found {f'the text {str(found)!r}' if isinstance(found, str) else found}"
    if kind == "finite_number":
        return f"a finite number is wanted, found {fault['input']}"
    return messages.explain(fault)


def _field(root: type[BaseModel], loc: Loc) -> str:
    model = _model_at(root, loc[:-1])
    field = model.model_fields.get(str(loc[-1])) if model else None
    return (field.description or "") if field else ""


def _model_at(root: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """The model that describes the mapping at loc."""
    model: type[BaseModel] | None = root
    for part in loc:
        if model is not None and isinstance(part, str) and part in model.model_fields:
            model = _inner(model.model_fields[part].annotation)
    return model


def _inner(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_inner(argument) for argument in get_args(annotation)]
    return next((model for model in found if model is not None), None)
