"""An operator's `sitewright`, for tests that type many commands, and that kill some of them.

`python -m tests.contracts.typing_operator` imports the command once and forks for each command line that it reads:
what runs is the real command in a process of its own. There it can be killed (SIGKILL) right after any of its effects,
that is after each thing that it writes anywhere, which is also before the next one. Playbooks are played by a function
unless a test wants them: Ansible takes seconds.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


class Operator:
    """Types commands in a checkout. effects: how many the last command had."""

    def __init__(self, checkout: Path, kubeconfig: Path) -> None:
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(REPOSITORY)}
        self._output = Path(tempfile.mkstemp(prefix="output-", dir=checkout)[1])
        command = [sys.executable, "-m", "tests.contracts.typing_operator", str(self._output)]
        self._server = subprocess.Popen(
            command, cwd=checkout, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.effects = 0

    def types(self, *words: str, status: int = 0, kill_at: int = -1, playbooks: bool = False) -> str:
        """What is printed, both streams. kill_at: after which of its effects, from 0 on."""
        assert self._server.stdin and self._server.stdout
        order = {"words": words, "kill_at": kill_at, "playbooks": playbooks}
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        ended = json.loads(self._server.stdout.readline())
        output = self._output.read_text()
        assert ended["status"] == (-signal.SIGKILL if kill_at >= 0 else status), f"{words}: {ended}\n{output}"
        self.effects = ended["effects"]
        return output

    def close(self) -> None:
        self._server.kill()
        self._server.communicate()


def main() -> None:
    import sitewright.cli.nodes  # noqa: F401  for all children

    output, (reader, writer) = Path(sys.argv[1]), os.pipe()
    os.set_blocking(reader, False)
    for line in sys.stdin:
        order = json.loads(line)
        if (child := os.fork()) == 0:
            _type(order, output, lambda: os.write(writer, b"."))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        effects = b""
        with contextlib.suppress(BlockingIOError):
            effects = os.read(reader, 65536)
        print(json.dumps({"status": status, "effects": len(effects)}), flush=True)


def _type(order: dict[str, Any], output: Path, note: Callable[[], object]) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    warnings.simplefilter("ignore")
    _prepare(order["playbooks"], _Killer(order["kill_at"], note))
    from sitewright.cli import main as command

    try:
        command(order["words"])
    finally:
        sys.stdout.flush()


class _Killer:
    def __init__(self, kill_at: int, note: Callable[[], object]) -> None:
        self._left, self._note = kill_at, note

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def done(*words: Any, **named: Any) -> Any:
            found = work(*words, **named)
            self._pass()
            return found

        return done

    def _pass(self) -> None:
        self._note()
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


def _prepare(playbooks: bool, killer: _Killer) -> None:
    """Quick looks instead of one a second, and the killer around whatever writes."""
    from sitewright.lifecycle import drain, join, journal, reassign, roll_actions
    from sitewright.provisioning import redfish
    from sitewright.provisioning.openchami_http import Http

    drain.POLL_SECONDS = redfish.POLL_SECONDS = join.PAUSE_SECONDS = 0.02
    if not playbooks:
        join.run_on = roll_actions.run_on = _played
    for owner, name in (
        (drain, "cordon"),
        (drain, "_evict"),
        (roll_actions.cluster_node, "uncordon"),
        (roll_actions, "power_nodes"),
        (roll_actions, "run_on"),
        (reassign, "power_nodes"),
        (reassign, "_leave_cluster"),
        (join, "run_on"),
        (journal.JournalFile, "write"),
        (Http, "write"),
    ):
        setattr(owner, name, killer.around(getattr(owner, name)))


def _played(playbook: str, nodes: Sequence[str], *_: Any) -> dict[str, str]:
    return dict(_failures(playbook, nodes))


def _failures(playbook: str, nodes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What the playbooks of the test's checkout do (rolling_site.py), without Ansible."""
    from sitewright.lifecycle.cluster_node import read

    for name in nodes:
        record = Path(f"machines/{name}.json")
        if playbook.endswith("check-nodes.yml"):
            if record.with_suffix(".sick").exists():
                yield name, "a fever"
            continue
        booted = json.loads(record.read_text())
        if not (node := read(name)).ready or node.boot_id != booted["boot_id"]:
            yield name, f"{name} does not answer"


if __name__ == "__main__":
    main()
