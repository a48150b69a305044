"""Control groups, on trees of plain directories that look like version 1 and version 2."""

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from lab import cgroup

HYBRID = """\
tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
cgroup /mnt/elsewhere cgroup rw,relatime,memory 0 0
"""
UNIFIED = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime 0 0\n"


@pytest.fixture
def version1(tmp_path, monkeypatch):
    """cpu, memory and cpuset."""
    found = []
    for name in ("cpu", "memory", "cpuset"):
        (tmp_path / name).mkdir()
        found.append(cgroup.Tree(tmp_path / name, (name,), False))
    (tmp_path / "cpuset/cpuset.cpus").write_text("0-1\n")
    (tmp_path / "cpuset/cpuset.mems").write_text("0\n")
    monkeypatch.setattr(cgroup, "trees", lambda: found)
    return tmp_path


@pytest.fixture
def version2(tmp_path, monkeypatch):
    for group in ("", "lab", "lab/machines", "lab/machines/one"):
        (tmp_path / group).mkdir(exist_ok=True)
        (tmp_path / group / "cgroup.controllers").write_text("cpuset cpu memory pids")
        for name in ("cgroup.subtree_control", "cpu.max", "memory.max", "cgroup.procs"):
            (tmp_path / group / name).touch()
    monkeypatch.setattr(cgroup, "trees", lambda: [cgroup.Tree(tmp_path, (), True)])
    return tmp_path


def test_a_host_with_version_1_has_one_tree_per_controller(monkeypatch):
    monkeypatch.setattr(cgroup, "_v1_controllers", lambda: {"cpu", "memory", "pids"})
    found = [(str(tree.mount), tree.controllers, tree.unified) for tree in cgroup.trees(HYBRID)]
    assert found == [
        ("/sys/fs/cgroup/cpu", ("cpu",), False),
        ("/sys/fs/cgroup/memory", ("memory",), False),
        ("/sys/fs/cgroup/systemd", (), False),
        ("/sys/fs/cgroup/unified", (), True),
    ]


def test_a_host_with_version_2_has_one_tree(monkeypatch):
    monkeypatch.setattr(cgroup, "_v1_controllers", set)
    assert [(str(tree.mount), tree.unified) for tree in cgroup.trees(UNIFIED)] == [("/sys/fs/cgroup", True)]


def test_no_control_groups_at_all_is_an_error():
    with pytest.raises(cgroup.SitewrightError, match="no control groups are mounted"):
        cgroup.trees("proc /proc proc rw 0 0\n")


def test_limits_of_version_1(version1):
    for name in ("cpu", "memory"):
        (version1 / name / "lab/machines/one").mkdir(parents=True)
    cgroup.limit("lab/machines/one", 1.5, 2**31)
    assert (version1 / "cpu/lab/machines/one/cpu.cfs_quota_us").read_text() == "150000"
    assert (version1 / "memory/lab/machines/one/memory.limit_in_bytes").read_text() == "2147483648"


def test_limits_of_version_2(version2):
    cgroup.limit("lab/machines/one", 2, 2**30)
    assert (version2 / "lab/machines/one/cpu.max").read_text() == "200000 100000"
    assert (version2 / "lab/machines/one/memory.max").read_text() == "1073741824"


def test_version_2_hands_controllers_down_to_every_group_above(version2):
    cgroup.create("lab/machines/one")
    for group in ("", "lab", "lab/machines"):
        assert (version2 / group / "cgroup.subtree_control").read_text() == "+pids", "the last one written"
    # Where processes are, nothing is handed down: version 2 forbids both at once.
    assert (version2 / "lab/machines/one/cgroup.subtree_control").read_text() == ""


def test_a_command_enters_its_group_in_every_tree_before_it_starts(version1):
    for name in ("cpu", "memory", "cpuset"):
        (version1 / name / "lab").mkdir()
    line = cgroup.wrap("lab", ["/bin/echo", "a b", "$HOME"])
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout == "a b $HOME\n"
    assert [(version1 / name / "lab/cgroup.procs").read_text() for name in ("cpu", "memory")] == [
        "0\n",
        "0\n",
    ]


def test_a_command_that_cannot_enter_its_group_does_not_start(version1):
    done = subprocess.run(cgroup.wrap("absent", ["/bin/echo", "started"]), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (97, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="control groups are made by root")
def test_what_is_frozen_dies_too():
    """Of version 1, where a frozen process keeps SIGKILL until it is let go; in version 2 it dies at once."""
    group, inner = f"sitewright-test-{os.getpid()}", f"sitewright-test-{os.getpid()}/container"
    cgroup.create(inner)
    process = subprocess.Popen(cgroup.wrap(inner, ["sleep", "600"]))
    freezers = [
        tree.mount / inner / "freezer.state" for tree in cgroup.trees() if "freezer" in tree.controllers
    ]
    try:
        while process.pid not in cgroup.processes(inner) or b"sleep" not in _command(process.pid):
            time.sleep(0.01)
        for freezer in freezers:
            freezer.write_text("FROZEN")
        threading.Thread(target=process.wait, daemon=True).start()
        cgroup.kill(group, timeout=10)
        assert cgroup.processes(group) == set()
    finally:
        for freezer in freezers:
            freezer.write_text("THAWED")
        process.kill()
        process.wait()
        cgroup.remove(group)


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_processes_are_those_of_all_trees_and_all_groups_below(version2):
    (version2 / "lab/machines/one/cgroup.procs").write_text("11\n12\n")
    (version2 / "lab/machines/cgroup.procs").write_text("10\n")
    assert cgroup.processes("lab/machines/one") == {11, 12}
    assert cgroup.processes("lab") == {10, 11, 12}
    assert cgroup.processes("nobody") == set()
