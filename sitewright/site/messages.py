"""Refusals of pydantic as sentences: what was found, what would be right."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

from sitewright.site.kubernetes_values import as_quantity
from sitewright.site.model import Site
from sitewright.site.problems import Loc, did_you_mean


def explain(fault: Any, root: type[BaseModel] = Site, not_offered: Mapping[str, str] | None = None) -> str:
    """One fault of `ValidationError.errors()` of the model `root` as a person reads it.

    not_offered: keys that other tools know, and why they are not offered here.
    """
    kind, context, found, loc = fault["type"], fault.get("ctx", {}), fault["input"], tuple(fault["loc"])
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        description = _description(root, loc)
        return "REQUIRED, and not there" + (f": {description}" if description else "")
    if kind == "extra_forbidden":
        return _unknown_key(root, loc, not_offered or {})
    if kind == "literal_error":
        wanted = [name.strip("'") for name in context["expected"].replace(" or ", ", ").split(", ")]
        return f"found {_shown(found)}, one of {', '.join(wanted)} is wanted{_near(found, wanted)}"
    if kind in _WANTED:
        return _wrong_type(kind, found)
    if kind == "too_short":
        return "the list is empty; at least one entry is wanted"
    if kind in _LIMITS:
        (limit,) = context.values()
        return _outside(found, _LIMITS[kind], limit)
    return f"{fault['msg']}, found {_shown(found)}"


_WANTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
}
_LIMITS = {
    "greater_than_equal": "at least",
    "less_than_equal": "at most",
    "greater_than": "above",
    "less_than": "below",
}


def _outside(found: Any, bound: str, limit: float) -> str:
    """A number beyond a limit; limits of sizes are large, and a size without a unit is a common slip."""
    if limit < 2**20:
        return f"{found} is not allowed; it must be {bound} {limit if isinstance(limit, int) else format(limit, 'g')}"
    unit = " bytes" if str(found).isdigit() else ""
    return f"{found}{unit} is not allowed; it must be {bound} {as_quantity(int(limit))}"


def _wrong_type(kind: str, found: Any) -> str:
    wanted = _WANTED[kind]
    advice = ""
    if kind == "string_type" and isinstance(found, int | float):
        advice = "; put it in quotes"
    elif wanted == "a whole number" and isinstance(found, str) and found.strip().isdigit():
        advice = "; write it without quotes"
    elif found is None:
        advice = "; the key has no value"
    return f"{wanted} is wanted, found {_shown(found)}{advice}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {str(value)!r}"
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list) else str(value)


def _near(found: Any, wanted: list[str]) -> str:
    hint = did_you_mean(found, wanted)
    return hint if hint.startswith(" (") else ""


def _unknown_key(root: type[BaseModel], loc: Loc, not_offered: Mapping[str, str]) -> str:
    if loc[-1] in not_offered:
        return f"not offered: {not_offered[str(loc[-1])]}"
    model = _model_at(root, loc[:-1])
    known = list(model.model_fields) if model else []
    return f"unknown key{did_you_mean(loc[-1], known)}"


def _description(root: type[BaseModel], loc: Loc) -> str:
    model = _model_at(root, loc[:-1])
    field = model.model_fields.get(str(loc[-1])) if model else None
    return (field.description or "") if field else ""


def _model_at(root: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """The model that describes the mapping at loc."""
    model: type[BaseModel] | None = root
    for part in loc:
        if model is not None and isinstance(part, str) and part in model.model_fields:
            model = _inner_model(model.model_fields[part].annotation)
    return model


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """The model in `Model`, `Model | None`, `list[Model]` or `dict[str, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_inner_model(argument) for argument in get_args(annotation)]
    return next((model for model in found if model is not None), None)
