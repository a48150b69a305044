"""A throw-away Pulumi project with its own backend, home and passphrase, driven by the real engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from tools.environment import pulumi_environment

REPO = Path(__file__).resolve().parents[2]


class Project:
    """A project `engine` with one stack `test` in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.diary = folder / "diary"
        backend = folder / "backend"
        backend.mkdir()
        self.environment = pulumi_environment(REPO, {**os.environ, "PULUMI_HOME": str(folder / "home")}) | {
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "PULUMI_CONFIG_PASSPHRASE": "a passphrase of this test",
            "DIARY": str(self.diary),
        }
        self.checkpoint = backend / ".pulumi" / "stacks" / "engine" / "test.json"
        (folder / "Pulumi.yaml").write_text("name: engine\nruntime: python\n")
        self.pulumi("stack", "init", "test")

    def program(self, text: str) -> None:
        (self.folder / "__main__.py").write_text(textwrap.dedent(text))

    def pulumi(self, *arguments: str, fails: bool = False) -> str:
        """Runs a command and returns what it printed; its exit status must be as expected."""
        done = subprocess.run(
            ["pulumi", "--non-interactive", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    def up(self, *arguments: str, fails: bool = False) -> str:
        return self.pulumi("up", "--yes", "--skip-preview", *arguments, fails=fails)

    def start_up(self) -> subprocess.Popen[str]:
        """An update in a process group of its own, so that a signal to the group is an operator's Ctrl-C."""
        return subprocess.Popen(
            ["pulumi", "up", "--non-interactive", "--yes", "--skip-preview"],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def outputs(self) -> dict[str, Any]:
        return dict(json.loads(self.pulumi("stack", "output", "--json", "--show-secrets")))

    def resources(self) -> dict[str, dict[str, Any]]:
        """What the backend holds, by resource name; read from the file, secrets as they are stored."""
        latest = json.loads(self.checkpoint.read_text())["checkpoint"]["latest"]
        return {resource["urn"].rsplit("::", 1)[1]: resource for resource in latest.get("resources", [])}

    def entries(self) -> list[str]:
        """What the slow provider did so far."""
        return self.diary.read_text().splitlines() if self.diary.exists() else []

    def wait_for(self, entry: str) -> None:
        deadline = time.monotonic() + 30
        while entry not in self.entries():
            assert time.monotonic() < deadline, f"{entry!r} did not happen; {self.entries()}"
            time.sleep(0.05)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def slow_project(project: Project) -> Project:
    """A project with the provider `slow`, and a program that makes `first` (2 s) and after it `second`."""
    plugin = project.folder / "home" / "plugins" / "resource-slow-v1.0.0" / "pulumi-resource-slow"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).parent / "slow_provider.py"} "$@"\n')
    plugin.chmod(0o755)
    project.program(
        """
        import os, pulumi

        def thing(name, seconds, **options):
            properties = {"seconds": seconds, "diary": os.environ["DIARY"]}
            options = pulumi.ResourceOptions(**options)
            return pulumi.CustomResource("slow:index:Thing", name, properties, options)

        first = thing("first", 2)
        second = thing("second", 0, depends_on=[first])
        """
    )
    return project
