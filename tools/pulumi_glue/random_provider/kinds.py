"""The resources of pulumi-random: what each takes, what it gives, and how an existing value is imported.

Everything here is plain data, numbers as int. Names, defaults, identifiers and the form of an imported value
are those of pulumi-random 4.21, with one exception: the official RandomBytes uses its secret bytes as the
identifier, which Pulumi keeps in clear in the state; ours is `none`, as in the Terraform provider below it.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sitewright.errors import SitewrightError
from tools.pulumi_glue.random_provider import generate

Values = dict[str, Any]

NUMBERS = {
    "length",
    "byteLength",
    "min",
    "max",
    "resultCount",
    "minNumeric",
    "minUpper",
    "minLower",
    "minSpecial",
}


@dataclass(frozen=True)
class Made:
    """A resource that exists: its identifier, and all its properties."""

    identifier: str
    properties: Values


@dataclass(frozen=True)
class Kind:
    """make: from inputs with defaults filled in; adopt: from the text given to `pulumi import`."""

    make: Callable[[Values], Made]
    adopt: Callable[[str], Made] | None
    outputs: tuple[str, ...]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    secret: tuple[str, ...] = ()
    check: Callable[[Values], list[tuple[str, str]]] = lambda values: []

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("keepers", *self.required, *self.optional, *self.defaults)

    def complete(self, inputs: Values) -> Values:
        """The inputs with defaults; `number` is the older name of `numeric`, whichever is given decides."""
        values = {**self.defaults, **inputs}
        if "numeric" in self.defaults:
            values["numeric"] = values["number"] = inputs.get("numeric", inputs.get("number", True))
        return values

    def problems(self, inputs: Values) -> list[tuple[str, str]]:
        """What is wrong with the inputs, as property and reason; unknown values have been left out."""
        found = [
            (name, f"not a property of this resource; it takes {', '.join(self.inputs)}")
            for name in inputs
            if name not in self.inputs
        ]
        found += [
            (name, f"{value!r} is not a whole number")
            for name, value in inputs.items()
            if name in NUMBERS and (isinstance(value, bool) or not isinstance(value, int))
        ]
        return found or self.check(self.complete(inputs))


# --- RandomPassword and RandomString

CHARACTER_DEFAULTS = {
    "special": True,
    "upper": True,
    "lower": True,
    "number": True,
    "numeric": True,
    "minNumeric": 0,
    "minUpper": 0,
    "minLower": 0,
    "minSpecial": 0,
}


def _make_password(values: Values) -> Made:
    return _password(generate.characters(values), values)


def _adopt_password(password: str) -> Made:
    return _password(password, {**CHARACTER_DEFAULTS, "length": len(password)})


def _password(password: str, values: Values) -> Made:
    secret = {"result": password, "bcryptHash": generate.bcrypt_hash(password)}
    return Made("none", {**values, **secret})


def _make_string(values: Values) -> Made:
    return _string(generate.characters(values), values)


def _adopt_string(text: str) -> Made:
    return _string(text, {**CHARACTER_DEFAULTS, "length": len(text)})


def _string(text: str, values: Values) -> Made:
    return Made(text, {**values, "result": text})


def _check_characters(values: Values) -> list[tuple[str, str]]:
    least = sum(values[name] for name in ("minUpper", "minLower", "minNumeric", "minSpecial"))
    length = values.get("length", max(least, 1))
    problems = []
    if length < 1:
        problems.append(("length", f"{length} is below 1"))
    elif length < least:
        problems.append(
            ("length", f"{length} is below {least}, the sum of minUpper, minLower, minNumeric, minSpecial")
        )
    if not any(values[name] for name in ("upper", "lower", "numeric", "special")):
        problems.append(("special", "upper, lower, numeric and special are all false; no character is left"))
    return problems


# --- RandomId and RandomBytes


def _make_id(values: Values) -> Made:
    return _id(generate.octets(values["byteLength"]), values)


def _adopt_id(text: str) -> Made:
    prefix, _, encoded = text.rpartition(",")
    try:
        octets = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise SitewrightError(f"{encoded}: not the b64Url of a RandomId ({error})") from error
    return _id(octets, {"byteLength": len(octets), **({"prefix": prefix} if prefix else {})})


def _id(octets: bytes, values: Values) -> Made:
    identifier = base64.urlsafe_b64encode(octets).decode().rstrip("=")
    forms = {
        "b64Url": identifier,
        "b64Std": base64.b64encode(octets).decode(),
        "hex": octets.hex(),
        "dec": str(int.from_bytes(octets, "big")),
    }
    prefix = values.get("prefix", "")
    return Made(identifier, {**values, **{name: prefix + form for name, form in forms.items()}})


def _make_bytes(values: Values) -> Made:
    return _bytes(generate.octets(values["length"]), values)


def _adopt_bytes(text: str) -> Made:
    try:
        octets = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        # Not the text itself: it is a secret.
        raise SitewrightError(f"the value to import is not the base64 of a RandomBytes ({error})") from error
    return _bytes(octets, {"length": len(octets)})


def _bytes(octets: bytes, values: Values) -> Made:
    return Made("none", {**values, "base64": base64.b64encode(octets).decode(), "hex": octets.hex()})


def _check_at_least_one(name: str) -> Callable[[Values], list[tuple[str, str]]]:
    return lambda values: [(name, f"{values[name]} is below 1")] if values.get(name, 1) < 1 else []


# --- RandomInteger, RandomPet, RandomUuid, RandomShuffle


def _make_integer(values: Values) -> Made:
    result = generate.integer(values["min"], values["max"], values.get("seed"))
    return Made(str(result), {**values, "result": result})


def _adopt_integer(text: str) -> Made:
    parts = text.split(",")
    try:
        result, low, high = (int(part) for part in parts[:3])
    except ValueError as error:
        raise SitewrightError(
            f"{text}: RandomInteger is imported as result,min,max or result,min,max,seed"
        ) from error
    seed = {"seed": parts[3]} if len(parts) > 3 else {}
    return Made(str(result), {"min": low, "max": high, "result": result, **seed})


def _check_integer(values: Values) -> list[tuple[str, str]]:
    low, high = values.get("min"), values.get("max")
    return (
        [("min", f"{low} is above max {high}")] if low is not None and high is not None and low > high else []
    )


def _make_pet(values: Values) -> Made:
    name = generate.pet(values["length"], values["separator"])
    if values.get("prefix"):
        name = f"{values['prefix']}{values['separator']}{name}"
    return Made(name, values)


def _make_uuid(values: Values) -> Made:
    result = generate.universally_unique()
    return Made(result, {**values, "result": result})


def _adopt_uuid(text: str) -> Made:
    try:
        result = str(uuid.UUID(text))
    except ValueError as error:
        raise SitewrightError(f"{text}: not a UUID") from error
    return Made(result, {"result": result})


def _make_shuffle(values: Values) -> Made:
    count = values.get("resultCount") or len(values["inputs"])
    return Made("-", {**values, "results": generate.permutation(values["inputs"], count, values.get("seed"))})


KINDS: dict[str, Kind] = {
    "random:index/randomPassword:RandomPassword": Kind(
        make=_make_password,
        adopt=_adopt_password,
        required=("length",),
        optional=("overrideSpecial",),
        defaults=CHARACTER_DEFAULTS,
        outputs=("result", "bcryptHash"),
        secret=("result", "bcryptHash"),
        check=_check_characters,
    ),
    "random:index/randomString:RandomString": Kind(
        make=_make_string,
        adopt=_adopt_string,
        required=("length",),
        optional=("overrideSpecial",),
        defaults=CHARACTER_DEFAULTS,
        outputs=("result",),
        check=_check_characters,
    ),
    "random:index/randomId:RandomId": Kind(
        make=_make_id,
        adopt=_adopt_id,
        required=("byteLength",),
        optional=("prefix",),
        outputs=("b64Url", "b64Std", "hex", "dec"),
        check=_check_at_least_one("byteLength"),
    ),
    "random:index/randomBytes:RandomBytes": Kind(
        make=_make_bytes,
        adopt=_adopt_bytes,
        required=("length",),
        outputs=("base64", "hex"),
        secret=("base64", "hex"),
        check=_check_at_least_one("length"),
    ),
    "random:index/randomInteger:RandomInteger": Kind(
        make=_make_integer,
        adopt=_adopt_integer,
        required=("min", "max"),
        optional=("seed",),
        outputs=("result",),
        check=_check_integer,
    ),
    "random:index/randomPet:RandomPet": Kind(
        make=_make_pet,
        adopt=None,
        optional=("prefix",),
        defaults={"length": 2, "separator": "-"},
        outputs=(),
        check=_check_at_least_one("length"),
    ),
    "random:index/randomUuid:RandomUuid": Kind(make=_make_uuid, adopt=_adopt_uuid, outputs=("result",)),
    "random:index/randomShuffle:RandomShuffle": Kind(
        make=_make_shuffle,
        adopt=None,
        required=("inputs",),
        optional=("resultCount", "seed"),
        outputs=("results",),
    ),
}
