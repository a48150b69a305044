"""The digest names what an image is built from."""

import pytest

from sitewright.artifacts.sources import path_digest as digest
from sitewright.errors import SitewrightError


def test_content_name_and_text_count_but_the_place_does_not(tmp_path):
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


def test_a_missing_path_is_an_error(tmp_path):
    with pytest.raises(SitewrightError):
        digest([tmp_path / "nowhere"], [])
