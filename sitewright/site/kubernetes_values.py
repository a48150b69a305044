"""Values as Kubernetes wants them: names, sizes, labels, taints. Each function checks one, and tidies it."""

import re
from typing import Any


def dns_label(text: str) -> str:
    """A DNS label (RFC 1123), as Kubernetes and KubeVirt want names; the refusal offers a legal spelling."""
    if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text):
        return text
    if not text:
        raise ValueError("an empty name; a DNS label is wanted (a-z, 0-9 and -)")
    legal = re.sub(r"[^a-z0-9-]", "-", text.lower()).strip("-")[:63].strip("-")
    advice = f"; {legal!r} would be legal" if legal else ""
    raise ValueError(f"{text!r} is not a DNS label: {_label_fault(text)}{advice}")


def _label_fault(text: str) -> str:
    strange = next((character for character in text if not re.match(r"[A-Za-z0-9-]", character)), None)
    if strange:
        return f"{strange!r} is not allowed"
    upper = next((character for character in text if character.isupper()), None)
    if upper:
        return f"upper case {upper!r} is not allowed"
    if len(text) > 63:
        return f"it has {len(text)} characters, 63 are allowed"
    return "it starts with '-'" if text.startswith("-") else "it ends with '-'"


_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip


def quantity(value: Any) -> int:
    """Bytes of a Kubernetes quantity: `6Gi` → 6442450944."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value!r} is not a size; write a Kubernetes quantity like 6Gi")
    match = re.fullmatch(r"([0-9]+)(?:\.([0-9]+))?([A-Za-z]*)", str(value))
    if not match:
        raise ValueError(f"{value!r} is not a size; write a Kubernetes quantity like 6Gi")
    whole, fraction, unit = match.groups()
    if unit not in _UNITS:
        near = {name.lower(): name for name in _UNITS}.get(unit.lower().removesuffix("b"), "Gi") or "Gi"
        raise ValueError(f"{value!r}: {unit!r} is not a unit; did you mean {whole}{near}?")
    bytes_ = int(whole) * _UNITS[unit]
    if fraction:
        bytes_ += int(fraction) * _UNITS[unit] // 10 ** len(fraction)
    return bytes_


def as_quantity(size: int) -> str:
    """`6442450944` → `6Gi`: the largest binary unit that divides it, else plain bytes."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def taint(text: str) -> str:
    """`key=value:Effect` or `key:Effect`, as kubectl writes a taint."""
    key_value, colon, effect = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r} is not a taint; write key=value:NoSchedule")
    effects = ("NoSchedule", "PreferNoSchedule", "NoExecute")
    if effect not in effects:
        raise ValueError(f"{text!r}: {effect!r} is not an effect; one of {', '.join(effects)} is wanted")
    key, _, value = key_value.partition("=")
    label_key(key)
    label_value(value)
    return str(text)


def label_key(text: str) -> str:
    prefix, slash, name = text.rpartition("/")
    if slash and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", prefix):
        raise ValueError(f"{text!r}: the part before the slash, {prefix!r}, is not a DNS name")
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", name):
        raise ValueError(
            f"{text!r} is not a label key: {name!r} must be 1 to 63 letters, digits, '-', '_' or '.'"
        )
    return str(text)


def label_value(text: str) -> str:
    if not re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", text):
        raise ValueError(f"{text!r} is not a label value: at most 63 letters, digits, '-', '_' or '.'")
    return str(text)
