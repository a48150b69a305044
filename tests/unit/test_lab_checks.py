"""What is refused before anything is made, and with which words."""

import ctypes
import os
import socket

import pytest
from lab_site import plan_below

from lab import checks, listeners
from sitewright.errors import SitewrightError

GIB = 2**30


@pytest.fixture
def plan(tmp_path):
    return plan_below(tmp_path)


def test_too_little_memory_says_how_much_is_there_and_how_much_is_needed(plan):
    [problem] = checks.too_little_memory(plan, available=5 * GIB, used=0)
    assert problem.message == (
        "memory: 5.0 GiB are available, 21.0 GiB are needed (3 machines with 20.0 GiB, services 1.0 GiB)"
    )


def test_what_the_running_lab_holds_counts_as_available(plan):
    assert checks.too_little_memory(plan, available=11 * GIB, used=10 * GIB) == []


def test_too_little_disk_says_how_much_is_there_and_how_much_is_needed(tmp_path):
    [problem] = checks.too_little_disk(tmp_path / "not/there/yet", free=3 * GIB)
    assert problem.message == f"disk: 3.0 GiB are free below {tmp_path}, 16.0 GiB are needed"


def test_a_lab_that_was_built_needs_less_disk(tmp_path):
    (tmp_path / "shared/environments/vllm-cpu").mkdir(parents=True)
    assert checks.too_little_disk(tmp_path, free=5 * GIB) == []


def test_missing_programs_come_with_the_command_that_installs_them(tmp_path):
    for name in checks.PACKAGES:
        if name not in ("haproxy", "dnsmasq"):
            (tmp_path / name).touch(mode=0o755)
    [problem] = checks.missing_programs(str(tmp_path))
    assert problem.message == "these programs are missing: haproxy, dnsmasq"
    assert problem.hint == "Run `apt-get install -y dnsmasq-base haproxy`."


def test_a_kernel_without_overlay_is_refused():
    [problem] = checks.missing_file_systems("nodev\ttmpfs\n\tsquashfs\n\text4\n")
    assert "has no overlay" in problem.message


def test_a_port_in_use_is_named_with_its_process(plan, monkeypatch):
    port = plan.site.lab.publish[0].port
    monkeypatch.setattr(
        listeners, "on_port", lambda asked: listeners.Listener(4711, "nginx") if asked == port else None
    )
    monkeypatch.setattr(checks.cgroup, "processes", lambda group: set())
    [problem] = checks.ports_in_use(plan)
    assert problem.message == (
        f"port {port} on 127.0.0.1, wanted for hypervisor, is taken by nginx (process 4711)"
    )


def test_the_labs_own_ports_are_not_in_use(plan, monkeypatch):
    monkeypatch.setattr(listeners, "on_port", lambda port: listeners.Listener(4711, "haproxy"))
    monkeypatch.setattr(checks.cgroup, "processes", lambda group: {4711})
    assert checks.ports_in_use(plan) == []


def test_too_few_instances_of_inotify_are_said_with_the_number_needed(plan):
    assert checks.too_few_watchers(plan, limit=128, others=56) == []
    [problem] = checks.too_few_watchers(plan, limit=128, others=57)
    assert problem.message == "inotify: 128 instances are allowed, others hold 57, 3 machines need 72"


def test_instances_of_inotify_outside_of_the_lab_are_counted(monkeypatch):
    monkeypatch.setattr(checks.cgroup, "processes", lambda group: set())
    before = checks.watchers_of_others()
    descriptor = ctypes.CDLL(None).inotify_init()
    try:
        assert checks.watchers_of_others() > before
        monkeypatch.setattr(checks.cgroup, "processes", lambda group: {os.getpid()})
        assert checks.watchers_of_others() <= before
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_listener_is_found_with_its_process(address):
    with socket.create_server((address, 0)) as server:
        assert listeners.on_port(server.getsockname()[1]).pid == os.getpid()


def test_a_listener_on_another_address_is_none_of_our_business():
    with socket.create_server(("127.0.0.2", 0)) as server:
        assert listeners.on_port(server.getsockname()[1]) is None


def test_all_problems_come_in_one_run(plan, monkeypatch):
    monkeypatch.setattr(checks, "require_root", lambda: None)
    monkeypatch.setattr(checks, "missing_programs", lambda: [SitewrightError("no programs", "install")])
    monkeypatch.setattr(checks, "ports_in_use", lambda plan: [SitewrightError("a port", "free it")])
    for name in ("missing_file_systems", "tools_not_built"):
        monkeypatch.setattr(checks, name, list)
    monkeypatch.setattr(checks, "too_little_memory", lambda *_: [])
    for name in ("too_little_disk", "too_few_watchers"):
        monkeypatch.setattr(checks, name, lambda *_: [])
    with pytest.raises(SitewrightError) as caught:
        checks.check(plan)
    assert caught.value.message == (
        "2 problems, nothing was changed:\n- no programs\n    install\n- a port\n    free it"
    )


def test_without_root_it_is_said_at_once(plan, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SitewrightError, match="which takes root"):
        checks.check(plan)
