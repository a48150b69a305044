"""Processes and private directories of runs: found, ended, removed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sitewright.errors import SitewrightError
from sitewright.provider import private, processes, settings


def test_every_process_of_a_run_is_killed_wherever_it_hides(tmp_path: Path) -> None:
    """One that left its session, one without environment, and one without parent, session or environment that
    names the private directory, as an ssh master does."""
    mark = str(tmp_path / "run")
    hidden = f"(env -i setsid bash -c 'exec -a {mark}/control sleep 5003' &)"
    script = f"setsid sleep 5001 & env -i setsid sleep 5002 & {hidden}; sleep 5004"
    root = subprocess.Popen(["bash", "-c", script], env={**os.environ, processes.MARK: mark})
    bystander = subprocess.Popen(["sleep", "5005"])
    started = [f"sleep {number}" for number in (5001, 5002, 5004)] + [f"{mark}/control 5003"]
    try:
        end = time.monotonic() + 10
        while not all(map(_runs, started)):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert processes.kill_run(mark, root=root.pid) == set()
        root.wait()
        assert not any(map(_runs, started))
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def _runs(command: str) -> bool:
    wanted = command.replace(" ", "\0").encode() + b"\0"
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if (process / "cmdline").read_bytes() == wanted and processes.is_alive(int(process.name)):
                    return True
            except OSError:
                continue
    return False


def test_a_private_directory_is_in_memory_and_for_the_owner_only() -> None:
    directory = private.create()
    try:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        filesystem = subprocess.run(
            ["stat", "-f", "-c", "%T", directory], capture_output=True, text=True
        ).stdout
        assert filesystem.strip() in ("tmpfs", "ramfs")
    finally:
        private.remove(directory)
    assert not directory.exists()


def test_what_a_killed_process_left_is_swept_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    mine = tmp_path / f"sitewright-run-{os.getpid()}-{processes.started_at(os.getpid())}-a"
    reused_pid = tmp_path / f"sitewright-run-{os.getpid()}-1-b"
    gone = tmp_path / "sitewright-run-4194303-77-c"
    other = tmp_path / "something-else"
    for directory in (mine, reused_pid, gone, other):
        directory.mkdir()
    assert set(private.sweep(tmp_path)) == {reused_pid, gone}
    assert mine.exists() and other.exists()


def test_without_memory_file_system_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "_mount_types", lambda: {"/dev/shm": "ext4"})
    with pytest.raises(SitewrightError, match="none of /dev/shm, /run is a writable tmpfs"):
        private.create()


def test_a_play_gets_none_of_the_operators_secrets(tmp_path: Path) -> None:
    operator = {
        "PATH": "/usr/bin",
        "PULUMI_CONFIG_PASSPHRASE": "p",
        "AWS_SECRET_ACCESS_KEY": "k",
        "HOME": "/root",
    }
    made = settings.environment(tmp_path, tmp_path / "private", "lab", operator)
    assert "p" not in made.values() and "k" not in made.values()
    assert made["SITEWRIGHT_ENVIRONMENT"] == "lab"
    assert made["PATH"].split(":")[0] == str(Path(sys.executable).parent)


def test_a_play_trusts_whom_its_operator_trusts(tmp_path: Path) -> None:
    operator = {"SSL_CERT_FILE": "/etc/site/ca.pem", "SSL_CERT_DIR": "/etc/site/ca"}
    made = settings.environment(tmp_path, tmp_path / "private", "lab", operator)
    assert {name: made[name] for name in operator} == operator


def test_host_keys_are_pinned_where_the_site_says_them(tmp_path: Path) -> None:
    made = settings.environment(tmp_path, tmp_path / "private", "lab", {})
    assert "StrictHostKeyChecking=accept-new" in made["ANSIBLE_SSH_ARGS"]
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments/lab.known_hosts").touch()
    made = settings.environment(tmp_path, tmp_path / "private", "lab", {})
    assert f"UserKnownHostsFile={tmp_path}/environments/lab.known_hosts" in made["ANSIBLE_SSH_ARGS"]
    assert "StrictHostKeyChecking=yes" in made["ANSIBLE_SSH_ARGS"]


def test_a_missing_ansible_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SitewrightError, match=r"(?s)ansible-playbook: no such program.*uv sync"):
        settings.ansible_playbook()
