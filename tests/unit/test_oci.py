import gzip
import hashlib
import json
import os
import tarfile

import pytest

from sitewright.artifacts import oci
from sitewright.errors import SitewrightError

NEWEST = 1_000_000_000  # what is older came from a package


def small_root(path, names=("b", "a")):
    """A root with a file, a program, a link, a hard link and a directory."""
    (path / "etc").mkdir(parents=True)
    for name in names:
        (path / "etc" / name).write_text(f"content of {name}")
    (path / "etc" / "a").chmod(0o750)
    os.utime(path / "etc" / "a", (NEWEST - 500, NEWEST - 500))
    (path / "etc" / "link").symlink_to("a")
    os.link(path / "etc" / "b", path / "etc" / "hard")
    return path


def layer_of(root, target):
    return oci.layer_from_directory(root, target, NEWEST)


def blob(layout, digest):
    return (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()


def test_the_same_content_gives_the_same_layer_whatever_the_order_and_time_of_writing(tmp_path):
    one = layer_of(small_root(tmp_path / "one"), tmp_path / "one.tar.gz")
    other = layer_of(small_root(tmp_path / "other", names=("a", "b")), tmp_path / "other.tar.gz")
    assert (one.digest, one.diff_id, one.size) == (other.digest, other.diff_id, other.size)


def test_times_of_packages_stay_and_times_of_the_build_become_zero(tmp_path):
    layer = layer_of(small_root(tmp_path / "root"), tmp_path / "layer.tar.gz")
    with tarfile.open(layer.path) as tar:
        assert tar.getmember("etc/a").mtime == NEWEST - 500
        assert tar.getmember("etc/b").mtime == 0


def test_digest_and_diff_id_are_those_of_the_bytes(tmp_path):
    layer = layer_of(small_root(tmp_path / "root"), tmp_path / "layer.tar.gz")
    data = layer.path.read_bytes()
    assert layer.size == len(data)
    assert layer.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert layer.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}"


def test_a_layer_that_could_not_be_written_leaves_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        oci.layer_from_files({"/bin/gone": tmp_path / "gone"}, {}, tmp_path / "layer.tar.gz")
    assert list(tmp_path.iterdir()) == []


def test_single_files_are_programs_of_root_below_directories_that_are_made(tmp_path):
    (tmp_path / "tool").write_bytes(b"\x7fELF")
    layer = oci.layer_from_files(
        {"/usr/local/bin/tool": tmp_path / "tool"}, {"/tmp": 0o1777}, tmp_path / "layer.tar.gz"
    )
    with tarfile.open(layer.path) as tar:
        modes = {member.name: member.mode for member in tar}
    assert modes == {
        "tmp": 0o1777,
        "usr": 0o755,
        "usr/local": 0o755,
        "usr/local/bin": 0o755,
        "usr/local/bin/tool": 0o755,
    }


def test_a_layout_names_every_blob_by_its_content(tmp_path):
    layer = layer_of(small_root(tmp_path / "root"), tmp_path / "layer.tar.gz")
    runtime = oci.Runtime(["/bin/tool"], {"LANG": "C.UTF-8"}, "65535", {"title": "tool"})
    digest = oci.write_layout(tmp_path / "layout", [layer], runtime)
    for path in (tmp_path / "layout" / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    manifest = json.loads(blob(tmp_path / "layout", digest))
    assert manifest["layers"] == [{"mediaType": oci.LAYER, "digest": layer.digest, "size": layer.size}]
    config = json.loads(blob(tmp_path / "layout", manifest["config"]["digest"]))
    assert config["rootfs"]["diff_ids"] == [layer.diff_id]
    assert config["config"]["Entrypoint"] == ["/bin/tool"]
    assert config["config"]["User"] == "65535"
    assert "LANG=C.UTF-8" in config["config"]["Env"]
    assert oci.layout_digest(tmp_path / "layout") == digest


def test_what_is_unpacked_is_what_was_packed(tmp_path):
    layer = layer_of(small_root(tmp_path / "root"), tmp_path / "layer.tar.gz")
    oci.write_layout(tmp_path / "layout", [layer], oci.Runtime())
    root = tmp_path / "unpacked"
    oci.unpack(tmp_path / "layout", root)
    assert (root / "etc" / "a").read_text() == "content of a"
    assert (root / "etc" / "a").stat().st_mode & 0o777 == 0o750
    assert (root / "etc" / "link").readlink().name == "a"
    assert (root / "etc" / "hard").samefile(root / "etc" / "b")


def test_a_later_layer_wins(tmp_path):
    layers = []
    for number in ("1", "2"):
        (tmp_path / number).write_text(number)
        layers.append(
            oci.layer_from_files({"/bin/tool": tmp_path / number}, {}, tmp_path / f"{number}.tar.gz")
        )
    oci.write_layout(tmp_path / "layout", layers, oci.Runtime())
    oci.unpack(tmp_path / "layout", tmp_path / "root")
    assert (tmp_path / "root" / "bin" / "tool").read_text() == "2"


def test_a_damaged_layer_is_refused_by_name(tmp_path):
    layer = layer_of(small_root(tmp_path / "root"), tmp_path / "layer.tar.gz")
    oci.write_layout(tmp_path / "layout", [layer], oci.Runtime())
    damaged = tmp_path / "layout" / "blobs" / "sha256" / layer.digest.removeprefix("sha256:")
    damaged.unlink()
    damaged.write_bytes(b"x")
    with pytest.raises(SitewrightError, match=rf"{damaged.name}: content has digest .*"):
        oci.unpack(tmp_path / "layout", tmp_path / "unpacked")


def test_a_directory_that_is_no_layout_is_refused(tmp_path):
    with pytest.raises(SitewrightError, match="not an OCI image layout of one image"):
        oci.layout_digest(tmp_path)
