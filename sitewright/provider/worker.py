"""Runs one playbook with ansible-runner, in a process of its own: `python -m sitewright.provider.worker`.

A process of its own for three reasons. Ansible is forked here and not in the provider, which has gRPC
threads. Everything a play starts stays below this process (it is a sub-reaper), so that stopping it stops
all. And when the provider is killed, the kernel tells this process, which then stops the play and removes the
private directory.

Standard input: one JSON object, the job. Standard output: JSON lines, `{"text": …}` as Ansible prints, then
`{"rc": …}`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, TextIO

from sitewright.provider import private, processes

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h."""


def main() -> int:
    job = json.loads(sys.stdin.readline())
    out = _take_stdout()
    directory = job["private_data_dir"]
    _bind_to_parent(job["parent"], directory)
    try:
        runner = _run(job, out)
        _write(out, {"rc": runner.rc, "status": runner.status})
    finally:
        processes.end_ssh_masters(directory)
        private.remove(Path(directory))
    return 0


def _run(job: dict[str, Any], out: TextIO) -> Any:
    import ansible_runner  # here, because the signal handler must be in place before anything takes long

    def forward(event: dict[str, Any]) -> bool:
        if event.get("stdout"):
            _write(out, {"text": event["stdout"], "kind": event["event"]})
        return False  # ansible-runner keeps no copy

    return ansible_runner.run(
        private_data_dir=job["private_data_dir"],
        project_dir=job["project_dir"],
        playbook=job["playbook"],
        inventory=job["inventory"],
        limit=job["limit"],
        settings={"suppress_output_file": True},
        omit_event_data=True,  # results stay out of its event files; they travel through our callback
        suppress_env_files=True,
        quiet=True,
        event_handler=forward,
        cancel_callback=lambda: False,
    )


def _bind_to_parent(parent: int, directory: str) -> None:
    """SIGTERM, also the one the kernel sends when the provider dies, stops the play and all its processes."""

    def stop(signum: int, frame: object) -> None:
        processes.kill_run(directory, root=os.getpid(), spare=frozenset({os.getpid()}))
        private.remove(Path(directory))
        os._exit(128 + signum)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # died before the line above
        os.kill(os.getpid(), signal.SIGTERM)


def _take_stdout() -> TextIO:
    """Standard output for our lines only: whatever else prints goes to standard error."""
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return ours


def _write(out: TextIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
