import ctypes
import errno

import pytest

from sitewright.artifacts import publishing
from sitewright.artifacts.publishing import differences, exchange, publish
from sitewright.errors import SitewrightError

MARKER = "manifest.json"


def version(path, content):
    path.mkdir(parents=True)
    (path / "data").write_text(content)
    (path / MARKER).write_text(content)
    return path


def test_a_directory_is_published_once(tmp_path):
    source, target = version(tmp_path / "one", "1"), tmp_path / "shared" / "models" / "m"
    assert publish(source, target, MARKER, link=False) is True
    assert publish(source, target, MARKER, link=False) is False
    assert (target / "data").read_text() == "1"


def test_another_version_replaces_the_old_one_and_nothing_else_stays(tmp_path):
    target = tmp_path / "shared" / "m"
    publish(version(tmp_path / "one", "1"), target, MARKER, link=False)
    assert publish(version(tmp_path / "two", "2"), target, MARKER, link=False) is True
    assert (target / "data").read_text() == "2"
    assert [path.name for path in target.parent.iterdir()] == ["m"]


def test_what_is_missing_or_of_another_size_is_named_and_published_again(tmp_path):
    source, target = version(tmp_path / "one", "1"), tmp_path / "shared" / "m"
    (source / "below").mkdir()
    (source / "below/file").write_text("content")
    publish(source, target, MARKER, link=False)
    (target / "more").write_text("somebody's")
    assert differences(source, target, MARKER) == [], "what is there besides harms nobody"
    (target / "data").unlink()
    (target / "below/file").write_text("conten")
    assert differences(source, target, MARKER) == ["below/file", "data"]
    assert publish(source, target, MARKER, link=False) is True
    assert differences(source, target, MARKER) == []


def test_another_version_is_named_by_its_marker_alone(tmp_path):
    one, two = version(tmp_path / "one", "1"), version(tmp_path / "two", "22")
    assert differences(one, two, MARKER) == differences(one, tmp_path / "gone", MARKER) == [MARKER]


def test_without_a_source_every_version_is_right_and_none_is_wrong(tmp_path):
    there = version(tmp_path / "one", "1")
    assert differences(tmp_path / "gone", there, MARKER) == []
    assert differences(tmp_path / "gone", tmp_path / "nothing", MARKER) == [MARKER]


@pytest.mark.parametrize("link", [True, False])
def test_files_are_linked_or_copied_as_told(tmp_path, link):
    source, target = version(tmp_path / "one", "1"), tmp_path / "shared" / "m"
    publish(source, target, MARKER, link=link)
    assert (target / "data").samefile(source / "data") is link


def test_what_a_killed_run_left_is_cleared(tmp_path):
    target = tmp_path / "shared" / "m"
    version(target.with_name(".m.partial"), "half")
    publish(version(tmp_path / "one", "1"), target, MARKER, link=False)
    assert [path.name for path in target.parent.iterdir()] == ["m"]


def test_a_copy_that_fails_leaves_the_old_version(tmp_path, monkeypatch):
    target = tmp_path / "shared" / "m"
    publish(version(tmp_path / "one", "1"), target, MARKER, link=False)

    def full(*_):
        raise SitewrightError("No space left on device")

    monkeypatch.setattr(publishing, "run", full)
    with pytest.raises(SitewrightError, match="No space left"):
        publish(version(tmp_path / "two", "2"), target, MARKER, link=False)
    assert (target / "data").read_text() == "1"
    assert [path.name for path in target.parent.iterdir()] == ["m"]


def test_a_file_system_that_cannot_exchange_renames_twice(tmp_path, monkeypatch):
    class Libc:
        def renameat2(self, *_):
            ctypes.set_errno(errno.EINVAL)
            return -1

    monkeypatch.setattr(publishing.ctypes, "CDLL", lambda *_, **__: Libc())
    one, other = version(tmp_path / "one", "1"), version(tmp_path / "other", "2")
    exchange(one, other)
    assert [(path / "data").read_text() for path in (one, other)] == ["2", "1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]
