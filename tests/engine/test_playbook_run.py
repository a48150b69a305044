"""PlaybookRun under the real Pulumi engine and the real Ansible."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.playbook_project import (
    PASSPHRASE,
    Project,
    interrupt,
    private_directories,
    processes_naming,
    wait_for,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

CANARY = "Canary-4b1d{{ not_a_template }}-'\"-7f0a"
RESULT_CANARY = "Result-Canary-90c2d1"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    left = processes_naming(str(tmp_path))
    assert not left, left
    assert not private_directories(tmp_path)


def test_a_changed_role_shows_exactly_the_affected_runs(project: Project) -> None:
    with_role = "- ansible.builtin.import_role: {name: greeting}\n"
    project.write(
        "playbooks/roles/greeting/tasks/main.yml",
        "- name: Say hello\n  ansible.builtin.set_stats: {data: {greeting: hello}, per_host: false}\n",
    )
    one = project.playbook("one", with_role)
    two = project.playbook(
        "two", "- ansible.builtin.set_stats: {data: {said: '{{ heard }}'}, per_host: false}"
    )
    three = project.playbook("three", "- ansible.builtin.debug: {msg: '{{ heard }}'}")
    project.declare(
        steady={"playbook": one, "stable_results": ["greeting"]},
        after_steady={"playbook": two, "variables": {"heard": "result:steady.greeting"}},
        moving={"playbook": one},
        after_moving={"playbook": three, "variables": {"heard": "result:moving.greeting"}},
    )
    assert set(project.operations().values()) == {"create"}  # unknown variables do not stop a preview

    project.up()
    assert project.output("steady") == {"greeting": "hello"}
    assert project.output("after_steady") == {"said": "hello"}
    assert set(project.operations().values()) == {"same"}
    before = len(project.records())
    project.up()
    assert len(project.records()) == before  # nothing ran

    project.write(
        "playbooks/roles/greeting/tasks/main.yml",
        "- name: Say hello\n  ansible.builtin.set_stats: {data: {greeting: goodbye}, per_host: false}\n",
    )
    steps = project.preview()
    assert {name: step["op"] for name, step in steps.items()} == {
        "steady": "update", "after_steady": "same", "moving": "update", "after_moving": "update",
    }  # fmt: skip
    changed = 'sources["playbooks/roles/greeting/tasks/main.yml"]'
    assert changed in steps["steady"]["detailedDiff"]
    assert set(steps["after_moving"]["detailedDiff"]) == {"variables.heard"}

    project.up()  # the promise of a stable result was wrong: the update notices
    assert project.output("after_steady") == {"said": "goodbye"}


def test_a_failed_run_fails_the_resource_and_is_repeated(project: Project) -> None:
    task = "- name: Look for the licence\n  ansible.builtin.command: sh -c '{}'\n  changed_when: false"
    bad, good = task.format("echo no licence server >&2; exit 7"), task.format("true")
    playbook = project.playbook("licence", bad)
    project.declare(run={"playbook": playbook})
    printed = project.up(ok=False)
    assert 'playbooks/licence.yml: task "Look for the licence" failed on localhost' in printed
    assert "non-zero return code (rc 7)" in printed and "no licence server" in printed
    assert "Traceback" not in printed
    (record,) = project.records()
    assert record["status"] == "failed"
    assert f"sitewright runs show {record['run']}" in printed
    project.pulumi("refresh", "--yes", "--skip-preview", "--stack", "lab")
    assert project.operations() == {
        "run": "update"
    }  # with the very same inputs, and a refresh changes nothing

    project.playbook("licence", good)
    project.up()
    assert project.operations() == {"run": "same"}

    project.playbook("licence", bad)
    project.up(ok=False)
    project.playbook("licence", good)  # the change is taken back, but the machines may be half-way
    assert project.operations() == {"run": "update"}
    project.up()
    assert project.state()["run"]["status"] == "ok"


def test_ctrl_c_stops_ansible_and_the_next_up_runs_it_again(project: Project) -> None:
    started = project.files / "started"
    playbook = project.playbook(
        "long",
        f"- name: Say that it runs\n  ansible.builtin.file: {{path: {started}, state: touch, mode: '0600'}}\n"
        f"- name: Take very long\n  ansible.builtin.command: sh -c 'test -e {project.files}/quick || sleep 4711'\n",
    )
    project.declare(long={"playbook": playbook})
    up = project.start_up()
    wait_for(lambda: started.exists() and processes_naming("sleep 4711"), "the play runs")
    began = time.monotonic()
    printed = interrupt(up)
    assert time.monotonic() - began < 15
    assert up.returncode != 0
    assert "cancelled after" in printed and 'in task "Take very long" on localhost' in printed
    assert not processes_naming("sleep 4711")
    assert [record["status"] for record in project.records()] == ["cancelled"]

    (project.files / "quick").touch()
    project.up()
    assert project.state()["long"]["status"] == "ok"


def test_a_killed_engine_leaves_no_process_and_the_next_up_converges(project: Project) -> None:
    started = project.files / "started"
    playbook = project.playbook(
        "long",
        f"- name: Say that it runs\n  ansible.builtin.file: {{path: {started}, state: touch, mode: '0600'}}\n"
        f"- name: Take very long\n  ansible.builtin.command: sh -c 'test -e {project.files}/quick || sleep 4712'\n",
    )
    project.declare(long={"playbook": playbook})
    up = project.start_up()
    wait_for(lambda: started.exists() and processes_naming("sleep 4712"), "the play runs")
    up.send_signal(signal.SIGKILL)
    up.communicate()
    wait_for(lambda: not processes_naming(str(project.root)), "all processes are gone", 20)

    (project.files / "quick").touch()
    project.pulumi("cancel", "--yes", "--stack", "lab")
    project.up()
    assert project.state()["long"]["status"] == "ok"


def test_a_timeout_names_the_task_it_was_in(project: Project) -> None:
    playbook = project.playbook("slow", "- name: Wait for the sun\n  ansible.builtin.command: sleep 4713")
    project.declare(slow={"playbook": playbook, "timeout": "4s"})
    printed = project.up(ok=False)
    assert (
        'playbooks/slow.yml: timed out after 4 s (timeout 4 s) in task "Wait for the sun" on localhost'
        in printed
    )
    assert not processes_naming("sleep 4713")


def test_destroy_runs_undo_with_the_old_variables(project: Project) -> None:
    do = project.playbook("do", "- ansible.builtin.debug: {msg: done}")
    undo = project.playbook(
        "undo",
        f"- name: Keep what was undone\n"
        f"  ansible.builtin.copy:\n"
        f"    content: '{{{{ who }}}} {{{{ token }}}}'\n"
        f"    dest: {project.files}/undone\n"
        f"    mode: '0600'\n",
    )
    project.secret("token", "old token")
    project.declare(
        run={"playbook": do, "undo": undo, "variables": {"who": "x1000", "token": "secret:token"}}
    )
    project.up()
    project.secret("token", "new token")
    project.pulumi("destroy", "--yes", "--skip-preview", "--stack", "lab")
    assert (project.files / "undone").read_text() == "x1000 old token"
    assert project.state() == {}


def test_a_replaced_run_is_undone_before_it_is_done_anew(project: Project) -> None:
    target = project.files / "motd"
    do = project.playbook("do", f"- ansible.builtin.copy: {{content: hello, dest: {target}, mode: '0600'}}")
    undo = project.playbook("undo", f"- ansible.builtin.file: {{path: {target}, state: absent}}")
    project.declare(made={"playbook": do, "undo": undo})
    project.up()
    project.up("--replace", "**::made")
    assert [record["action"] for record in project.records()] == ["run", "undo", "run"]
    assert target.read_text() == "hello"


def test_an_update_knows_the_variables_of_the_last_run_that_ended_well(project: Project) -> None:
    playbook = project.playbook(
        "shrink",
        "- ansible.builtin.set_stats:\n"
        "    data: {left: '{{ sitewright_previous.names | default([]) | difference(names) }}'}\n"
        "    per_host: false\n"
        "- ansible.builtin.assert:\n    that: names != ['fail']",
    )

    def declare(*names: str) -> None:
        project.declare(run={"playbook": playbook, "variables": {"names": list(names)}})

    declare("a", "b")
    project.up()
    assert project.output("run") == {"left": []}
    declare("fail")
    project.up(ok=False)
    declare("a", "c")
    project.up()
    assert project.output("run") == {"left": ["b"]}


def test_a_verify_playbook_finds_drift_and_the_next_up_repairs_it(project: Project) -> None:
    target = project.files / "motd"
    do = project.playbook(
        "do", f"- ansible.builtin.copy: {{content: '{{{{ text }}}}', dest: {target}, mode: '0600'}}"
    )
    verify = project.playbook(
        "verify",
        f"- name: The message of the day is ours\n"
        f"  ansible.builtin.assert:\n"
        f"    that: lookup('file', '{target}') == text\n"
        f"    fail_msg: somebody changed it\n",
    )
    project.declare(run={"playbook": do, "verify": verify, "variables": {"text": "hello"}})
    project.up()
    project.pulumi("refresh", "--yes", "--skip-preview", "--stack", "lab", "--expect-no-changes")

    target.write_text("changed by hand")
    printed = project.pulumi("refresh", "--yes", "--skip-preview", "--stack", "lab")
    assert 'task "The message of the day is ours" failed on localhost: somebody changed it' in printed
    assert project.operations() == {"run": "update"}
    project.up()
    assert target.read_text() == "hello"
    assert project.state()["run"]["status"] == "ok"


def test_a_verify_playbook_in_check_mode_finds_what_a_repeat_would_change(project: Project) -> None:
    target = project.files / "motd"
    copy = (
        f"- name: Keep the message\n  ansible.builtin.copy: {{content: hello, dest: {target}, mode: '0600'}}"
    )
    do = project.playbook("do", copy)
    verify = project.playbook("verify", copy, more="  check_mode: true\n")
    project.declare(run={"playbook": do, "verify": verify})
    project.up()
    target.unlink()
    printed = project.up("--refresh")  # finds it and repairs it at once
    assert "drift: Keep the message (localhost)" in printed
    assert target.read_text() == "hello"
    project.pulumi("refresh", "--yes", "--skip-preview", "--stack", "lab", "--expect-no-changes")


def test_runs_that_do_not_depend_on_each_other_run_at_once(project: Project) -> None:
    """Each play waits until all three have come: one after the other would never end."""
    playbook = project.playbook(
        "meet",
        f"- ansible.builtin.file: {{path: '{project.files}/{{{{ me }}}}', state: touch, mode: '0600'}}\n"
        f"- name: Wait for the others\n"
        f"  ansible.builtin.wait_for: {{path: '{project.files}/{{{{ item }}}}', timeout: 30}}\n"
        f"  loop: [a, b, c]\n"
        f"- ansible.builtin.set_stats: {{data: {{met: '{{{{ me }}}}'}}, per_host: false}}",
    )
    project.declare(**{name: {"playbook": playbook, "variables": {"me": name}} for name in "abc"})
    assert "Wait for the others (localhost) 2/3" in project.up()  # progress, while it lasts
    assert [project.output(name) for name in "abc"] == [{"met": name} for name in "abc"]


def test_bad_inputs_are_refused_before_anything_runs(project: Project) -> None:
    playbook = project.playbook("uses", "- ansible.builtin.import_role: {name: absent}")
    project.declare(run={"playbook": playbook, "timeout": "soon"})
    printed = project.up(ok=False)
    assert "timeout" in printed and "'soon' is no duration; write it like 90s, 10m or 1h30m" in printed
    project.declare(run={"playbook": playbook})
    assert "playbooks/uses.yml:5: no role 'absent' in playbooks/roles" in project.up(ok=False)
    project.declare(run={"playbook": "playbooks/nowhere.yml"})
    assert "playbooks/nowhere.yml: no such playbook" in project.up(ok=False)
    assert project.records() == []


def test_unreachable_hosts_are_named(project: Project) -> None:
    inventory = project.write(
        "playbooks/inventory/site.py",
        "#!/bin/sh\n"
        """echo '{"nodes": {"hosts": ["n1", "n2"], "vars": {"ansible_host": "127.0.0.1", "ansible_port": 1}}}'\n""",
    )
    inventory.chmod(0o755)
    playbook = project.playbook("reach", "- name: Say hello\n  ansible.builtin.ping:", hosts="nodes")
    project.declare(run={"playbook": playbook, "environment": "lab"})
    printed = project.up(ok=False)
    assert 'playbooks/reach.yml: n[1-2] unreachable in task "Say hello"' in printed
    assert "Connection refused" in printed


def test_secrets_appear_nowhere(project: Project) -> None:
    """A variable and a result, both secret, are looked for in all that a run leaves or shows while it runs."""
    project.secret("token", CANARY)
    playbook = project.playbook(
        "secretive",
        f"- name: Show the secret although one must not\n"
        f"  ansible.builtin.debug: {{msg: 'token {{{{ token }}}}'}}\n"
        f"- name: Use the secret\n"
        f"  ansible.builtin.copy: {{content: '{{{{ token }}}}', dest: {project.files}/used, mode: '0600'}}\n"
        f"- name: Make a secret\n"
        f"  ansible.builtin.command: printf '%s-%s' Result-Canary 90c2d1\n"
        f"  register: made\n"
        f"- name: Be watched\n"
        f"  ansible.builtin.command: sleep 2\n"
        f"- name: Return the secret\n"
        f"  ansible.builtin.set_stats: {{data: {{made: '{{{{ made.stdout }}}}', plain: 1}}, per_host: false}}\n"
        f"  no_log: true\n"
        f"- name: Fail with the secret\n"
        f"  ansible.builtin.command: sh -c 'cat >&2; exit 1'\n"
        f"  args: {{stdin: '{{{{ token }}}} {{{{ made.stdout }}}}'}}\n"
        f"  when: fail | default(false)",
    )
    run = {"playbook": playbook, "variables": {"token": "secret:token"}, "secret_results": ["made"]}
    seen: list[str] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.extend(processes_naming(CANARY[:11]))
            seen.extend(command for command in processes_naming(PASSPHRASE) if "ansible" in command)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        project.declare(run=run)
        printed = project.up()
        project.declare(run={**run, "variables": {**run["variables"], "fail": True}})  # type: ignore[dict-item]
        printed += project.up(ok=False)
        printed += project.pulumi("stack", "export", "--stack", "lab")
    finally:
        done.set()
        watcher.join()

    assert (project.files / "used").read_text() == CANARY  # it did arrive, and not as a template
    assert not seen, seen
    assert "Fail with the secret" in printed
    (project.files / "used").unlink()
    everything = {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()}
    everything[Path("what pulumi printed")] = printed.encode()
    for needle in (b"Canary-4b1d", RESULT_CANARY.encode()):
        assert [str(path) for path, content in everything.items() if needle in content] == []
    assert project.output("run")["made"] == RESULT_CANARY
