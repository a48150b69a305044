"""Machines and networks of the lab, as far as they can be looked at without root."""

from pathlib import Path

import pytest
from lab_site import plan_below

from lab import down, lock, machine, mounts, paths, reach, up
from lab.machine import Bind, Machine
from lab.stages import Stages
from sitewright.errors import SitewrightError


def a_machine(**more) -> Machine:
    return Machine("svc-cp", Path("/root-of-it"), "nodes", "02:00:00:00:00:01", 2, 2**31, **more)


def test_kernel_arguments_come_last_and_after_a_separator():
    command = machine._nspawn(a_machine(init_args=("root=live:http://x/y", "-q")), Path("/run/netns/n"))
    assert command[-3:] == ["--", "root=live:http://x/y", "-q"]


def test_binds_are_read_only_where_asked_and_colons_escaped():
    binds = (Bind(Path("/a:b"), "/seed", read_only=True), Bind(Path("/data"), "/var/lib/etcd"))
    command = machine._nspawn(a_machine(binds=binds), Path("/run/netns/n"))
    assert "--bind-ro=/a\\:b:/seed" in command
    assert "--bind=/data:/var/lib/etcd" in command


def test_a_machine_keeps_its_machine_id():
    first, second = (machine._nspawn(a_machine(), Path("/n")) for _ in range(2))
    assert [option for option in first if option.startswith("--uuid=")] == [
        option for option in second if option.startswith("--uuid=")
    ]


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "a.b", "-a", "a" * 64, "../x"])
def test_a_name_that_could_lead_elsewhere_is_refused(name):
    with pytest.raises(SitewrightError, match="is not a DNS label"):
        Machine(name, Path("/"), "nodes", "", 1, 1)


@pytest.mark.parametrize("name", ["nodes", "a-network-with-a-long-name", "a-network-with-a-long-mane"])
def test_interface_names_fit_the_kernel(name):
    assert len(paths.short("br-", name)) <= 15


def test_long_names_do_not_collide():
    assert paths.short("v-", "x1000c0s0b0n0") == "v-x1000c0s0b0n0"
    assert paths.short("v-", "a" * 20) != paths.short("v-", "a" * 21)


def test_what_was_mounted_last_is_unmounted_first(monkeypatch):
    """An overlay is as deep as the image below it, but later."""
    targets = ["/s", "/s/image", "/s/root", "/s/a\\040b/c", "/sister", "/s/root"]
    text = "\n".join(f"1 2 0:1 / {target} rw - tmpfs t rw" for target in targets)
    monkeypatch.setattr(Path, "read_text", lambda self: text)
    found = [str(path) for path in mounts.below(Path("/s"))]
    assert found == ["/s/root", "/s/a b/c", "/s/root", "/s/image", "/s"]


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setenv("SITEWRIGHT_LAB_STATE_DIR", str(tmp_path / "state"))
    return plan_below(tmp_path)


def test_a_directory_that_is_not_the_labs_is_never_removed(plan):
    plan.state.mkdir()
    (plan.state / "thesis.tex").touch()
    with pytest.raises(
        SitewrightError, match="is not the directory of the lab 'sitewright-lab': nothing was touched"
    ):
        down.down(Stages())
    with pytest.raises(SitewrightError, match="holds files of something else than the lab"):
        up.directories(plan)
    assert (plan.state / "thesis.tex").exists()


def test_the_directory_of_a_lab_with_another_name_is_never_removed(plan, monkeypatch):
    up.directories(plan)
    assert down.may_remove(plan.state)
    monkeypatch.setenv("SITEWRIGHT_LAB_NAME", "another")
    assert not down.may_remove(plan.state)


def test_a_known_name_becomes_an_ssh_line_through_the_proxy(plan):
    line = reach.ssh_command(plan, "x1000c0s0b1n0", ("echo", "a b"))
    assert line[-3:] == ["root@10.77.0.65", "--", "echo 'a b'"]
    assert f"ProxyCommand={plan.site.ssh.proxy_command}" in line


def test_a_single_word_is_a_shell_line(plan):
    assert reach.ssh_command(plan, "svc-cp", ("uptime | wc -l",))[-1] == "uptime | wc -l"


def test_an_unknown_machine_names_the_close_one(plan):
    with pytest.raises(SitewrightError, match=r"no machine named 'svc-pc' \(did you mean 'svc-cp'\?\)"):
        reach.ssh_command(plan, "svc-pc")


def test_an_unknown_log_names_what_there_is(plan):
    up.directories(plan)
    (plan.state / "logs/registry.log").touch()
    assert reach.log_file(plan, "registry") == plan.state / "logs/registry.log"
    with pytest.raises(SitewrightError, match=r"\(did you mean 'registry'\?\)"):
        reach.log_file(plan, "regisrty")


def test_an_image_is_published_with_its_checksum_beside_others(plan, tmp_path):
    source, target = tmp_path / "cache/debian-12.squashfs", tmp_path / "www/debian-12.squashfs"
    source.parent.mkdir()
    target.parent.mkdir()
    source.write_bytes(b"image")
    (source.parent / "SHA512SUMS").write_text("abc  debian-12.squashfs\n")
    (target.parent / "SHA512SUMS").write_text("old  debian-12.squashfs\ndef  other.squashfs\n")
    for _ in range(2):
        up._publish(source, target)
    assert target.read_bytes() == b"image"
    assert (target.parent / "SHA512SUMS").read_text() == "def  other.squashfs\nabc  debian-12.squashfs\n"


def test_the_lock_is_free_again_and_leaves_no_file(monkeypatch):
    monkeypatch.setenv("SITEWRIGHT_LAB_NAME", "swlocktest")
    for _ in range(2):
        with lock.exclusive():
            assert Path("/run/lock/swlocktest.lock").exists()
    assert not Path("/run/lock/swlocktest.lock").exists()
