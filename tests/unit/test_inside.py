import subprocess
import sys
import time
from pathlib import Path

import pytest

from sitewright.artifacts.inside import Bind, run, run_inside
from sitewright.errors import SitewrightError


@pytest.fixture
def root(tmp_path):
    """A root whose programs are this machine's, read-only."""
    path = tmp_path / "root"
    path.mkdir()
    for name in ("bin", "lib", "lib64", "sbin"):
        (path / name).symlink_to(f"usr/{name}")
    return path


def inside(root, script, *binds):
    return run_inside(
        root, ["/bin/sh", "-c", script], "trial", 10, binds=[Bind(Path("/usr"), "/usr"), *binds]
    )


def test_a_bind_is_seen_at_its_target_and_the_root_is_slash(root, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("seen")
    assert inside(root, "cat /data/file", Bind(tmp_path / "data", "/data")) == "seen"


def test_a_bind_is_read_only_unless_said_otherwise(root, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(SitewrightError, match="Read-only file system"):
        inside(root, "touch /data/file", Bind(tmp_path / "data", "/data"))
    inside(root, "touch /data/file", Bind(tmp_path / "data", "/data", read_only=False))
    assert (tmp_path / "data" / "file").exists()


def test_there_is_no_network_inside(root):
    assert inside(root, "ls /proc/self/net/route && tail -n +2 /proc/self/net/route").splitlines()[1:] == []


def test_nothing_stays_mounted(root):
    inside(root, "true")
    assert str(root) not in Path("/proc/self/mountinfo").read_text()


def test_a_command_that_takes_too_long_is_killed_with_what_it_started(root, tmp_path):
    begun = time.monotonic()
    with pytest.raises(SitewrightError, match=r"trial: not done after 1 s"):
        run_inside(
            root,
            ["/bin/sh", "-c", "sleep 7654 & sleep 7654"],
            "trial",
            0.8,
            binds=[Bind(Path("/usr"), "/usr")],
        )
    assert time.monotonic() - begun < 5
    time.sleep(0.1)
    assert not _running(b"sleep\x007654")


def test_a_killed_builder_leaves_no_orphan(root):
    program = (
        "from pathlib import Path; from sitewright.artifacts.inside import Bind, run_inside; "
        f"run_inside(Path({str(root)!r}), ['sleep', '7655'], 'x', 60, binds=[Bind(Path('/usr'), '/usr')])"
    )
    builder = subprocess.Popen([sys.executable, "-c", program])
    _until(lambda: _running(b"sleep\x007655"))
    builder.kill()
    builder.wait()
    _until(lambda: not _running(b"sleep\x007655"))


def _until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def _running(words):
    return [
        entry.name
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and words in _command_line(entry.name)
    ]


def _command_line(pid):
    try:
        return (Path("/proc") / pid / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_failure_names_the_purpose_the_status_and_the_last_lines():
    with pytest.raises(SitewrightError, match=r"brewing: exit status 3\nno water"):
        run(["/bin/sh", "-c", "echo no water >&2; exit 3"], "brewing", 5)


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(SitewrightError, match="brewing: no program kettle-9000"):
        run(["kettle-9000"], "brewing", 5)


def test_a_shell_gets_the_text_on_its_input():
    assert run(["cat"], "copying", 5, text="line\n") == "line\n"
