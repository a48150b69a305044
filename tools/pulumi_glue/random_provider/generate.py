"""Makes random values from the operating system's generator, in the shapes of pulumi-random.

Source: the documented behaviour of pulumi-random 4.21. A `seed` gives the same value every time here too, but
not the value that the official provider would draw from it.
"""

from __future__ import annotations

import random
import secrets
import string
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import bcrypt

from tools.pulumi_glue.random_provider.pet_words import ADJECTIVES, ADVERBS, NAMES

SPECIAL = "!@#$%&*()-_=+[]{}<>:?"
BCRYPT_COST = 10
BCRYPT_BYTES = 72  # bcrypt looks at no more of a password


def characters(wanted: Mapping[str, Any]) -> str:
    """A string of `wanted["length"]` characters with the wanted minimum of each class, in random order."""
    classes = {
        "upper": string.ascii_uppercase,
        "lower": string.ascii_lowercase,
        "numeric": string.digits,
        "special": wanted.get("overrideSpecial") or SPECIAL,
    }
    drawn = []
    for name, alphabet in classes.items():
        drawn += [secrets.choice(alphabet) for _ in range(wanted[f"min{name.capitalize()}"])]
    alphabet = "".join(alphabet for name, alphabet in classes.items() if wanted[name])
    drawn += [secrets.choice(alphabet) for _ in range(wanted["length"] - len(drawn))]
    secrets.SystemRandom().shuffle(drawn)
    return "".join(drawn)


def bcrypt_hash(password: str) -> str:
    salt = bcrypt.gensalt(BCRYPT_COST, prefix=b"2a")  # the prefix that Go's bcrypt writes
    return bcrypt.hashpw(password.encode()[:BCRYPT_BYTES], salt).decode()


def integer(low: int, high: int, seed: str | None) -> int:
    return _generator(seed).randint(low, high)


def permutation(items: Sequence[str], count: int, seed: str | None) -> list[str]:
    """`count` items; where more are asked for than there are, whole permutations follow each other."""
    generator = _generator(seed)
    drawn: list[str] = []
    while items and len(drawn) < count:
        drawn += generator.sample(items, len(items))
    return drawn[:count]


def pet(words: int, separator: str) -> str:
    """`words` words: a name, before it an adjective, before that adverbs."""
    parts = [secrets.choice(ADVERBS) for _ in range(words - 2)]
    parts += [secrets.choice(ADJECTIVES)] if words > 1 else []
    return separator.join([*parts, secrets.choice(NAMES)])


def universally_unique() -> str:
    return str(uuid.uuid4())


def octets(count: int) -> bytes:
    return secrets.token_bytes(count)


def _generator(seed: str | None) -> random.Random:
    return random.Random(seed) if seed else secrets.SystemRandom()
