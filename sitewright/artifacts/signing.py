"""Signatures of files, as minisign makes and reads them: Ed25519 over the BLAKE2b digest, in two lines of base64.

Source: https://jedisct1.github.io/minisign/, "Signature format", "Public key format", "Secret key format".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sitewright.errors import SitewrightError

SUFFIX = ".minisig"
PUBLIC = ".pub"  # behind the name of the secret key
_ED25519, _HASHED, _NO_PASSWORD, _BLAKE2B = b"Ed", b"ED", b"\0\0", b"B2"
_UNUSED = bytes(48)  # salt and limits of the password's derivation
_TRUSTED = "trusted comment: "


@dataclass(frozen=True)
class PublicKey:
    """number: eight bytes that tell keys apart."""

    number: bytes
    key: bytes

    @property
    def name(self) -> str:
        """As minisign prints it."""
        return self.number[::-1].hex().upper()


@dataclass(frozen=True)
class SecretKey:
    number: bytes
    seed: bytes

    @property
    def public(self) -> PublicKey:
        return PublicKey(
            self.number, Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        )


def create(path: Path) -> PublicKey:
    """A new key: the secret half in `path`, for nobody else to read, the public one in `<path>.pub`.

    Raises: SitewrightError where there is one already.
    """
    secret = SecretKey(os.urandom(8), os.urandom(32))
    public = secret.public
    number, checked = secret.number, secret.seed + public.key
    plain = number + checked + _checksum(number, checked)
    body = _ED25519 + _NO_PASSWORD + _BLAKE2B + _UNUSED + plain
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"untrusted comment: minisign secret key {public.name}\n{_text(body)}\n")
        text = (
            f"untrusted comment: minisign public key {public.name}\n{_text(_ED25519 + number + public.key)}\n"
        )
        public_path(path).write_text(text, encoding="ascii")
    except OSError as error:
        raise SitewrightError(f"{error.filename}: {error.strerror}") from error
    return public


def public_path(secret: Path) -> Path:
    return secret.with_name(secret.name + PUBLIC)


def read_public(path: Path) -> PublicKey:
    """Raises: SitewrightError naming the file."""
    body = _body(path, 42, "minisign public key")
    return PublicKey(body[2:10], body[10:])


def read_secret(path: Path) -> SecretKey:
    """Raises: SitewrightError naming the file, also for a key with a password, which nobody is there to type."""
    body = _body(path, 158, "minisign secret key")
    if body[2:4] != _NO_PASSWORD:
        raise SitewrightError(
            f"{path}: the key has a password, and an unattended run cannot ask for it",
            "Take the password away: `minisign -C -W -s KEY`, and keep the file where only the operator reads it.",
        )
    plain = body[54:]
    number, checked, checksum = plain[:8], plain[8:72], plain[72:]
    # Keys made with -W by older versions have a checksum of zeros.
    if any(checksum) and checksum != _checksum(number, checked):
        raise SitewrightError(f"{path}: the key is damaged: its checksum is wrong")
    return SecretKey(number, checked[:32])


def sign(file: Path, key: SecretKey, comment: str) -> Path:
    """Writes the signature beside the file. comment: is signed too. The same file has the same signature."""
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    signature = private.sign(_digest(file))
    whole = private.sign(signature + comment.encode())
    text = (
        f"untrusted comment: signature of key {key.public.name}\n"
        f"{_text(_HASHED + key.number + signature)}\n{_TRUSTED}{comment}\n{_text(whole)}\n"
    )
    target = signature_path(file)
    partial = target.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(target)
    return target


def signature_path(file: Path) -> Path:
    return file.with_name(file.name + SUFFIX)


def verify(file: Path, key: PublicKey) -> str:
    """The signed comment. Raises: SitewrightError where the file has no signature, or another's, or was changed."""
    path = signature_path(file)
    try:
        _, first, trusted, last = path.read_text(encoding="utf-8").splitlines()
        body, whole = base64.b64decode(first, validate=True), base64.b64decode(last, validate=True)
    except FileNotFoundError as error:
        raise SitewrightError(f"{file} is not signed: no {path.name} beside it", _SIGN_IT) from error
    except (OSError, ValueError, binascii.Error) as error:
        raise SitewrightError(f"{path}: no signature of minisign ({error})", _SIGN_IT) from error
    kind, number, signature = body[:2], body[2:10], body[10:]
    if kind != _HASHED or len(signature) != 64 or not trusted.startswith(_TRUSTED):
        raise SitewrightError(f"{path}: no signature of minisign with a hashed file", _SIGN_IT)
    if number != key.number:
        found = PublicKey(number, b"").name
        raise SitewrightError(f"{file} is signed by key {found}, not by the site's, {key.name}", _SIGN_IT)
    comment = trusted.removeprefix(_TRUSTED)
    public = Ed25519PublicKey.from_public_bytes(key.key)
    try:
        public.verify(signature, _digest(file))
        public.verify(whole, signature + comment.encode())
    except InvalidSignature as error:
        raise SitewrightError(
            f"{file} is not what key {key.name} signed: it or its signature was changed", _SIGN_IT
        ) from error
    return comment


_SIGN_IT = (
    "An image that nobody signed is neither published nor declared. Build it on the machine that has the secret key "
    "(image_server.signing_key)."
)


def _digest(file: Path) -> bytes:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "blake2b").digest()


def _checksum(number: bytes, checked: bytes) -> bytes:
    return hashlib.blake2b(_ED25519 + number + checked, digest_size=32).digest()


def _body(path: Path, size: int, what: str) -> bytes:
    try:
        _, text = path.read_text(encoding="utf-8").splitlines()[:2]
        body = base64.b64decode(text, validate=True)
    except OSError as error:
        hint = "Make one with `sitewright images new-key PATH`, or with `minisign -G -W`."
        raise SitewrightError(f"{path}: {error.strerror}", hint) from error
    except (ValueError, binascii.Error) as error:
        raise SitewrightError(f"{path}: no {what} ({error})") from error
    if len(body) != size or body[:2] != _ED25519:
        raise SitewrightError(f"{path}: no {what}: {len(body)} bytes, not {size}")
    return body


def _text(body: bytes) -> str:
    return base64.b64encode(body).decode()
