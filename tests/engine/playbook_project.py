"""A Pulumi project with playbooks of its own, for tests that run the real engine on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.environment import pulumi_environment

PASSPHRASE = "correct horse of the tests"

PLAYBOOK_RUNS = """
import json, pathlib
import pulumi
from sitewright.provider import PlaybookRun

config = pulumi.Config()
runs = {}

def value(text):
    kind, _, rest = text.partition(":") if isinstance(text, str) else ("", "", "")
    if kind == "secret":
        return config.require_secret(rest)
    if kind == "result":
        run, _, name = rest.partition(".")
        return runs[run].result(name)
    return text

for name, arguments in json.loads(pathlib.Path("../runs.json").read_text()).items():
    variables = {key: value(text) for key, text in arguments.pop("variables", {}).items()}
    runs[name] = PlaybookRun(name, variables=variables, **arguments)
    pulumi.export(name, runs[name].results)
"""


class Project:
    """One project with one stack `lab`. `runs` is what the program declares: name → arguments of PlaybookRun."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = root / "made-by-plays"
        for directory in ("stacks", "playbooks/roles", "state", "made-by-plays"):
            (root / directory).mkdir(parents=True)
        self.write("Pulumi.yaml", "name: project\nruntime: python\nmain: stacks/\n")
        self.write("stacks/__main__.py", PLAYBOOK_RUNS)
        self.environment = {
            **pulumi_environment(root, os.environ),
            "PULUMI_BACKEND_URL": f"file://{root}/state",
            "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
        }
        self.pulumi("stack", "init", "lab")

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def playbook(self, name: str, tasks: str, hosts: str = "localhost", more: str = "") -> str:
        """Write a playbook of one play; `tasks` is the YAML list of its tasks, without indentation."""
        indented = "".join(f"    {line}\n" for line in tasks.strip("\n").splitlines())
        play = f"- name: The play\n  hosts: {hosts}\n  gather_facts: false\n{more}  tasks:\n{indented}"
        return str(self.write(f"playbooks/{name}.yml", play).relative_to(self.root))

    def declare(self, **runs: dict[str, Any]) -> None:
        self.write("runs.json", json.dumps(runs))

    def secret(self, name: str, text: str) -> None:
        self.pulumi("config", "set", "--secret", "--stack", "lab", name, stdin=text)

    def pulumi(self, *arguments: str, stdin: str | None = None, ok: bool = True) -> str:
        """Run pulumi; returns all it printed. ok: whether it must succeed."""
        done = subprocess.run(
            ["pulumi", "--non-interactive", *arguments],
            cwd=self.root, env=self.environment, input=stdin, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert (done.returncode == 0) is ok, f"pulumi {' '.join(arguments)}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def up(self, *arguments: str, ok: bool = True) -> str:
        return self.pulumi("up", "--yes", "--skip-preview", "--stack", "lab", *arguments, ok=ok)

    def start_up(self) -> subprocess.Popen[str]:
        """`pulumi up` in the background."""
        return subprocess.Popen(
            ["pulumi", "--non-interactive", "up", "--yes", "--skip-preview", "--stack", "lab"],
            cwd=self.root, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def preview(self) -> dict[str, dict[str, Any]]:
        """What preview would do: name of the resource → its step, with `op` and `detailedDiff`."""
        done = subprocess.run(
            ["pulumi", "--non-interactive", "preview", "--json", "--show-sames", "--stack", "lab"],
            cwd=self.root, env=self.environment, text=True, capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        steps = json.loads(done.stdout)["steps"]
        return {step["urn"].rpartition("::")[2]: step for step in steps if "::sitewright:" in step["urn"]}

    def operations(self) -> dict[str, str]:
        return {name: step["op"] for name, step in self.preview().items()}

    def state(self) -> dict[str, dict[str, Any]]:
        """Outputs of our resources in the state, by name."""
        exported = json.loads(self.pulumi("stack", "export", "--stack", "lab"))
        resources = exported["deployment"].get("resources", [])
        return {
            r["urn"].rpartition("::")[2]: r["outputs"]
            for r in resources
            if r["type"].startswith("sitewright:")
        }

    def output(self, name: str) -> Any:
        return json.loads(self.pulumi("stack", "output", "--json", "--show-secrets", name))

    def records(self) -> list[dict[str, Any]]:
        """All run.json of the project, oldest first."""
        paths = sorted((self.root / ".sitewright/runs").glob("*/run.json"))
        return [json.loads(path.read_text()) for path in paths]


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def processes_naming(text: str) -> list[str]:
    """Command lines of all processes that name a text, or carry it in their environment."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                command = (process / "cmdline").read_bytes()
                everything = command + (process / "environ").read_bytes()
            except OSError:
                continue
            if text.encode() in everything:
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def private_directories(repository: Path) -> list[Path]:
    """Private directories of runs of one repository; other people's runs have theirs in the same place."""
    found = []
    for variables in Path("/dev/shm").glob("sitewright-run-*/env/extravars"):
        try:
            if str(repository) in variables.read_text():
                found.append(variables.parents[1])
        except FileNotFoundError:
            continue
    return found


def interrupt(process: subprocess.Popen[str]) -> str:
    """What Ctrl-C does in a terminal, for the engine alone; returns all it printed."""
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=60)[0]
