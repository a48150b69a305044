"""Signatures: those of minisign are understood and the other way round; what is not the operator's is refused."""

import subprocess
from pathlib import Path

import pytest

from sitewright.artifacts import signing
from sitewright.errors import SitewrightError


@pytest.fixture
def file(tmp_path) -> Path:
    made = tmp_path / "manifest.json"
    made.write_text('{"digest": "sha256:ab"}\n')
    return made


@pytest.fixture
def key(tmp_path) -> Path:
    signing.create(tmp_path / "site.key")
    return tmp_path / "site.key"


def public(key: Path) -> signing.PublicKey:
    return signing.read_public(signing.public_path(key))


def sign(file: Path, key: Path) -> Path:
    return signing.sign(file, signing.read_secret(key), "boot image compute")


def minisign(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["minisign", *map(str, words)], capture_output=True, text=True, check=False)


def test_what_was_signed_is_verified_with_its_comment(file, key):
    sign(file, key)
    assert signing.verify(file, public(key)) == "boot image compute"


def test_the_same_file_has_the_same_signature(file, key):
    first = sign(file, key).read_text()
    assert sign(file, key).read_text() == first


def test_the_secret_key_is_for_nobody_else_and_is_never_overwritten(key):
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SitewrightError, match=r"site.key: File exists"):
        signing.create(key)


def test_minisign_verifies_what_is_signed_here(file, key):
    sign(file, key)
    done = minisign("-V", "-p", signing.public_path(key), "-m", file)
    assert done.returncode == 0 and "boot image compute" in done.stdout, done.stderr


def test_what_minisign_signs_is_verified_here(file, tmp_path):
    key = tmp_path / "other.key"
    assert minisign("-G", "-W", "-s", key, "-p", signing.public_path(key)).returncode == 0
    assert minisign("-S", "-s", key, "-m", file, "-t", "by hand").returncode == 0
    assert signing.verify(file, public(key)) == "by hand"
    assert signing.read_secret(key).public == public(key)


def test_minisign_signs_with_a_key_that_is_made_here(file, key):
    assert minisign("-S", "-s", key, "-m", file).returncode == 0
    signing.verify(file, public(key))


def test_a_file_without_a_signature_is_refused(file, key):
    with pytest.raises(SitewrightError, match=r"manifest.json is not signed: no manifest.json.minisig"):
        signing.verify(file, public(key))


def test_a_changed_file_is_refused(file, key):
    sign(file, key)
    file.write_text('{"digest": "sha256:cd"}\n')
    with pytest.raises(SitewrightError, match=r"is not what key .* signed"):
        signing.verify(file, public(key))


def test_a_changed_comment_is_refused(file, key):
    path = sign(file, key)
    path.write_text(path.read_text().replace("compute", "another"))
    with pytest.raises(SitewrightError, match=r"is not what key .* signed"):
        signing.verify(file, public(key))


def test_the_signature_of_another_key_is_refused_and_both_are_named(file, key, tmp_path):
    other = signing.create(tmp_path / "other.key")
    sign(file, tmp_path / "other.key")
    with pytest.raises(SitewrightError, match=f"by key {other.name}, not by the site's, {public(key).name}"):
        signing.verify(file, public(key))


def test_another_key_that_says_it_is_this_one_is_refused(file, key, tmp_path):
    sign(file, key)
    stranger = signing.PublicKey(public(key).number, signing.create(tmp_path / "other.key").key)
    with pytest.raises(SitewrightError, match=r"is not what key .* signed"):
        signing.verify(file, stranger)


@pytest.mark.parametrize("text", ["", "a\nb\nc\nd\n", "a\nRUQ=\ntrusted comment: x\nRUQ=\n", "one line"])
def test_what_is_no_signature_is_refused(file, key, text):
    signing.signature_path(file).write_text(text)
    with pytest.raises(SitewrightError, match=r"manifest.json.minisig: no signature of minisign"):
        signing.verify(file, public(key))


def test_a_key_that_is_none_is_named(tmp_path, key):
    with pytest.raises(SitewrightError, match=r"nowhere: No such file"):
        signing.read_secret(tmp_path / "nowhere")
    with pytest.raises(SitewrightError, match=r"site.key: no minisign public key: 158 bytes, not 42"):
        signing.read_public(key)
    comment, body, *_ = key.read_text().splitlines()
    key.write_text(f"{comment}\n{body[:90]}AAAA{body[94:]}\n")
    with pytest.raises(SitewrightError, match=r"site.key: the key is damaged"):
        signing.read_secret(key)


def test_a_key_with_a_password_is_refused_with_what_to_do(tmp_path, key):
    comment, body, *_ = key.read_text().splitlines()
    key.write_text(f"{comment}\n{body[:2]}RT{body[4:]}\n")
    with pytest.raises(SitewrightError, match=r"site.key: the key has a password"):
        signing.read_secret(key)
