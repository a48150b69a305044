"""The digest names what an image is built from."""

import pytest


@pytest.fixture
def digest(ansible_module):
    return ansible_module("path_digest").path_digest


def test_content_name_and_text_count_but_the_place_does_not(digest, tmp_path):
    for place in ("a", "b"):
        (tmp_path / place / "role").mkdir(parents=True)
        (tmp_path / place / "role/main.yml").write_text("x")
    first = digest([tmp_path / "a/role"], ["t"])
    assert first == digest([tmp_path / "b/role"], ["t"])
    assert first != digest([tmp_path / "a/role"], ["u"])
    (tmp_path / "b/role/main.yml").write_text("y")
    assert first != digest([tmp_path / "b/role"], ["t"])
    (tmp_path / "a/role/main.yml").rename(tmp_path / "a/role/other.yml")
    assert first != digest([tmp_path / "a/role"], ["t"])


def test_a_missing_path_is_an_error(digest, tmp_path):
    with pytest.raises(FileNotFoundError):
        digest([tmp_path / "nowhere"], [])
