"""A root proves itself by the tree of hashes behind it: any change of any byte is refused."""

from pathlib import Path

import pytest

from lab.bmc import image
from lab.bmc.ipxe import BootError, Script
from sitewright.artifacts import verity
from sitewright.errors import SitewrightError

BLOCKS = 300  # more than one block of hashes, so that the tree has two levels


@pytest.fixture
def root(tmp_path) -> Path:
    file = tmp_path / "rootfs.squashfs"
    file.write_bytes(b"".join(number.to_bytes(2, "big") * 2048 for number in range(BLOCKS)))
    return file


def test_the_same_file_has_the_same_tree(root, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(root.read_bytes())
    assert verity.append(root) == verity.append(other)
    assert root.read_bytes() == other.read_bytes()


def test_the_tree_is_behind_the_file_and_the_value_says_where(root):
    before = root.read_bytes()
    value = verity.append(root)
    assert value.endswith(f"@{BLOCKS * 4096}")
    assert root.read_bytes().startswith(before)
    verity.verify(root, value)


@pytest.mark.parametrize("at", [0, 150 * 4096 + 7, BLOCKS * 4096 - 1])
def test_a_file_with_one_byte_changed_is_refused(root, at):
    value = verity.append(root)
    content = bytearray(root.read_bytes())
    content[at] ^= 1
    root.write_bytes(content)
    with pytest.raises(SitewrightError, match=r"does not match sitewright.verity"):
        verity.verify(root, value)


def test_another_top_is_refused(root):
    value = verity.append(root)
    other = value.replace(value[7:9], "00" if value[7:9] != "00" else "11", 1)
    with pytest.raises(SitewrightError, match=r"does not match sitewright.verity"):
        verity.verify(root, other)


def test_a_file_that_is_cut_short_is_refused(root):
    value = verity.append(root)
    root.write_bytes(root.read_bytes()[:-4096])
    with pytest.raises(SitewrightError, match=r"does not match sitewright.verity"):
        verity.verify(root, value)


@pytest.mark.parametrize("value", ["yes", "sha256:ab@4096", f"sha256:{'a' * 64}", f"sha256:{'a' * 64}@x", ""])
def test_a_value_that_is_none_is_refused(root, value):
    with pytest.raises(SitewrightError, match=r"sitewright.verity is sha256:"):
        verity.verify(root, value)


def test_a_file_of_odd_size_has_no_tree(root):
    root.write_bytes(b"odd")
    with pytest.raises(SitewrightError, match="3 bytes, which is no multiple of 4096"):
        verity.append(root)


def test_a_node_of_the_lab_refuses_a_root_with_another_tree(root):
    value = verity.append(root)
    image.check_tree(root, Script(arguments=(f"sitewright.verity={value}",)))
    image.check_tree(root, Script(arguments=("quiet",)))
    content = bytearray(root.read_bytes())
    content[5000] ^= 1
    root.write_bytes(content)
    with pytest.raises(BootError, match=r"(?s)does not match sitewright.verity=sha256:.*refused"):
        image.check_tree(root, Script(arguments=(f"sitewright.verity={value}",)))
