"""The real `pulumi` runs Python programs through our language host."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

A_UUID = """
    import pulumi, pulumi_random

    pulumi.export("uuid", pulumi_random.RandomUuid("uuid").result)
"""


def test_a_stack_lives_through_preview_up_refresh_and_destroy(project):
    project.program(A_UUID)
    preview = project.pulumi("preview")
    assert "+ 2 to create" in preview
    assert "$PATH" not in preview  # no warning about where a plugin was found

    project.up()
    uuid = project.outputs()["uuid"]
    assert "2 unchanged" in project.up()
    assert "2 unchanged" in project.pulumi("refresh", "--yes", "--skip-preview")
    assert project.outputs()["uuid"] == uuid

    project.pulumi("destroy", "--yes", "--skip-preview")
    assert project.resources() == {}


def test_a_secret_of_the_configuration_reaches_the_program_and_no_file_in_clear(project):
    project.pulumi("config", "set", "--secret", "token", "canary-4711")
    project.pulumi("config", "set", "plain", "words")
    project.program(
        """
        import pulumi
        config = pulumi.Config()
        pulumi.export("token", config.require_secret("token"))
        pulumi.export("long", config.require_secret("token").apply(len))
        pulumi.export("plain", config.require("plain"))
        """
    )
    assert "canary" not in project.up()
    assert project.outputs() == {"token": "canary-4711", "long": 11, "plain": "words"}
    for path in project.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"canary" not in path.read_bytes(), path


def test_a_program_that_raises_shows_its_message_and_its_own_lines_only(project):
    project.program(
        """
        import pulumi

        def choose(name):
            raise KeyError(f"no cluster named {name}")

        choose("svcs")
        """
    )
    printed = project.up(fails=True)
    assert "KeyError: 'no cluster named svcs'" in printed
    assert '__main__.py", line 7, in <module>' in printed
    assert 'choose("svcs")' in printed
    assert "asyncio" not in printed
    assert "program.py" not in printed


def test_an_error_inside_apply_fails_the_update_with_its_line(project):
    project.program(
        """
        import pulumi_random
        pulumi_random.RandomUuid("uuid").result.apply(lambda text: int(text))
        """
    )
    printed = project.up(fails=True)
    assert "ValueError: invalid literal for int()" in printed
    assert "lambda text: int(text)" in printed


def test_a_syntax_error_and_an_exit_are_failures_with_a_reason(project):
    project.program("x = (\n")
    assert "SyntaxError: '(' was never closed" in project.pulumi("preview", fails=True)
    project.program("import sys; sys.exit('nothing to deploy')")
    assert "sys.exit('nothing to deploy')" in project.pulumi("preview", fails=True)


def test_log_messages_and_prints_are_shown_with_their_severity(project):
    project.program(
        """
        import pulumi
        print("printed words")
        pulumi.log.info("informing words")
        pulumi.log.warn("warning words")
        """
    )
    printed = project.up()
    assert "printed words" in printed
    assert "informing words" in printed
    assert "warning: warning words" in printed

    project.program("import pulumi; pulumi.log.error('words of an error')")
    assert (
        "error: words of an error" in project.up()
    )  # as with the official host: shown, and counted as 1 errored


def test_the_program_imports_what_lies_beside_it_and_runs_in_the_project_folder(project):
    (project.folder / "stacks").mkdir()
    (project.folder / "Pulumi.yaml").write_text("name: engine\nruntime: python\nmain: stacks/\n")
    (project.folder / "stacks" / "beside.py").write_text("word = 'imported'\n")
    (project.folder / "stacks" / "__main__.py").write_text(
        "import os, beside, pulumi\n"
        "pulumi.export('word', beside.word)\n"
        "pulumi.export('stack', pulumi.get_stack() + '/' + pulumi.get_project())\n"
        "pulumi.export('folder', os.path.basename(os.getcwd()))\n"
    )
    project.up()
    assert project.outputs() == {"word": "imported", "stack": "test/engine", "folder": "stacks"}


def test_a_refused_input_is_named_once_and_not_blamed_on_the_program(project):
    project.program("import pulumi_random; pulumi_random.RandomPassword('short', length=0)")
    printed = project.up(fails=True)
    assert "length value {0} has a problem: 0 is below 1" in printed
    assert "terminated" not in printed
    assert "Traceback" not in printed


def test_ctrl_c_finishes_what_is_in_flight_and_the_next_update_goes_on(slow_project):
    update = slow_project.start_up()
    slow_project.wait_for("creating first")
    os.killpg(update.pid, signal.SIGINT)
    printed, _ = update.communicate(timeout=30)
    assert update.returncode != 0
    assert "update canceled" in printed
    assert slow_project.entries() == ["creating first", "created first"]
    assert "first" in slow_project.resources()

    slow_project.up()
    assert slow_project.entries()[2:] == ["creating second", "created second"]


def test_ctrl_c_ends_a_program_that_does_not_listen(project):
    project.program("import os, time; open(os.environ['DIARY'], 'w').write('asleep'); time.sleep(60)")
    started = time.monotonic()
    update = project.start_up()
    project.wait_for("asleep")
    os.killpg(update.pid, signal.SIGINT)
    update.communicate(timeout=30)
    assert update.returncode != 0
    assert time.monotonic() - started < 20
    project.program(A_UUID)
    project.up()


def test_an_engine_that_was_killed_leaves_no_plugin_and_a_stack_that_cancel_frees(slow_project):
    update = slow_project.start_up()
    slow_project.wait_for("creating first")
    os.killpg(update.pid, signal.SIGKILL)
    update.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while _processes_in(slow_project.folder):
        assert time.monotonic() < deadline, _processes_in(slow_project.folder)
        time.sleep(0.2)

    assert "locked" in slow_project.up(fails=True)
    slow_project.pulumi("cancel", "--yes")
    slow_project.up()
    assert slow_project.entries()[-2:] == ["creating second", "created second"]


def _processes_in(folder):
    """Process ids whose working directory is the project."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if Path(entry.path, "cwd").readlink() == folder:
                    found.append(entry.name)
            except OSError:
                continue
    return found
