"""One run of one playbook: started, followed, and cleaned up after, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sitewright.provider import private, processes, settings, variables
from sitewright.provider.artifacts import Artifacts, new_record
from sitewright.provider.failures import RunFailed, describe
from sitewright.provider.play import Play
from sitewright.provider.progress import Log, Progress
from sitewright.provider.redact import Redactor
from sitewright.provider.values import texts_of

_LINE_LIMIT = 64 * 1024 * 1024
"""Bytes of one event; a kubeconfig or a package list in a result must fit."""

_OUTPUT_KEPT = 200
"""Lines of Ansible's output kept in memory, for the message of a run that fails before its first task."""

_PATIENCE = 10
"""Seconds a worker gets to stop its play before it is killed itself."""

_WARNING = "[WARNING]: "

INVENTORY = Path("playbooks/inventory/site.py")


@dataclass(frozen=True)
class Job:
    """What to run. action: run, verify or undo; previous: variables of the run that an update follows;
    secrets: every text to hide; timeout: seconds, None for no limit."""

    name: str
    urn: str
    action: str
    playbook: str
    environment: str | None
    limit: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    previous: Mapping[str, Any] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()
    secret_results: tuple[str, ...] = ()
    timeout: float | None = None
    digest: str = ""


@dataclass(frozen=True)
class RunResult:
    """What a play left behind. results: its `set_stats`; with `per_host: true` they are below the key
    `per_host`."""

    results: dict[str, Any]
    changed: bool
    log: str
    changes: tuple[str, ...] = ()
    """Tasks that changed something, or in check mode would have, with their hosts."""


class Run:
    """`await Run(…).execute()`; `stop()` from anywhere in the event loop ends it, and `execute` then
    raises."""

    def __init__(self, job: Job, repository: Path, log: Log) -> None:
        self.job = job
        self._repository = repository
        self._log = log
        self._redact = Redactor(job.secrets)
        self._progress = Progress(log, job.urn)
        self._output: list[str] = []
        self._rc: int | None = None
        self._stopped_as = ""
        self._private: Path | None = None
        self._worker: asyncio.subprocess.Process | None = None
        self._killer: asyncio.Task[None] | None = None

    def stop(self, reason: str) -> None:
        """End the play and everything it started. reason: cancelled, or timed out."""
        self._stopped_as = self._stopped_as or reason
        if self._worker is not None:
            with contextlib.suppress(ProcessLookupError):
                self._worker.terminate()
            self._killer = self._killer or asyncio.create_task(self._kill_if_stuck())

    async def _kill_if_stuck(self) -> None:
        await asyncio.sleep(_PATIENCE)
        assert self._worker is not None
        await asyncio.to_thread(processes.kill_run, str(self._directory), self._worker.pid)

    async def execute(self) -> RunResult:
        """Run the playbook to its end. Raises: RunFailed; SitewrightError where it cannot even start."""
        job = self.job
        self._private = private.create()
        record = new_record(job.name, job.action, job.playbook, job.environment, job.limit, job.digest)
        artifacts = Artifacts(self._repository, record, self._redact, hold_log=bool(job.secret_results))
        play = Play(self._progress, artifacts, self._redact)
        status, failure = "failed", ""
        try:
            await self._follow(play, artifacts)
            self._redact.add(text for name in job.secret_results for text in texts_of(play.results.get(name)))
            self._raise_unless_well(play, artifacts)
            status = "ok"
        except RunFailed as error:
            status, failure = error.status, str(error)
            raise
        except asyncio.CancelledError:  # the engine hung up
            self._stopped_as, status = "cancelled", "cancelled"
            raise
        finally:
            await self._end()
            record.changed, record.hosts = play.changed, play.hosts
            artifacts.finish(status, self._progress.seconds, failure)
        return RunResult(play.results, play.changed, artifacts.relative, tuple(play.changes))

    async def _follow(self, play: Play, artifacts: Artifacts) -> None:
        """Start the worker and follow its output and the callback's events until both end."""
        self._fill_private_directory()
        async with self._events(play), self._ticking():
            await self._start_worker()
            try:
                async with asyncio.timeout(self.job.timeout):
                    await self._read_output(artifacts)
            except TimeoutError:
                self.stop("timed out")
                await self._read_output(artifacts)

    def _fill_private_directory(self) -> None:
        directory, job = self._directory, self.job
        for name in ("tmp", "ssh", "home", "inventory"):
            (directory / name).mkdir(mode=0o700)
        (directory / "ansible.cfg").touch()  # empty: no other ansible.cfg is looked for
        common = {
            "sitewright_environment": job.environment,
            "sitewright_previous": job.previous,
            "sitewright_repository": str(self._repository),
            "sitewright_tools": _tools(),
        }
        variables.write(directory / "env" / "extravars", {**common, **job.variables})
        # Local tasks keep their temporary files, which may be secrets, in memory too.
        local = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ansible_remote_tmp": str(directory / "tmp"),
        }
        variables.write(directory / "inventory" / "host_vars" / "localhost.yml", local)
        (directory / "inventory" / "hosts").write_text("" if job.environment else "localhost\n")
        if job.limit:
            # A file, because a limit of thousands of names is too long for a command line; one pattern per line.
            patterns = [job.limit] if job.limit.startswith("~") else job.limit.split(",")
            (directory / "limit").write_text("".join(f"{pattern}\n" for pattern in patterns))

    async def _start_worker(self) -> None:
        directory, job = self._directory, self.job
        sources = [str(self._repository / INVENTORY)] if job.environment else []
        order = {
            "parent": os.getpid(),
            "private_data_dir": str(directory),
            "project_dir": str(self._repository),
            "playbook": str(self._repository / job.playbook),
            "inventory": [*sources, str(directory / "inventory" / "hosts")],
            "limit": f"@{directory / 'limit'}" if job.limit else None,
        }
        self._worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "sitewright.provider.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=settings.environment(self._repository, directory, job.environment, os.environ),
            cwd=self._repository,
            limit=_LINE_LIMIT,
            start_new_session=True,
        )
        assert self._worker.stdin is not None
        self._worker.stdin.write(json.dumps(order).encode() + b"\n")
        self._worker.stdin.close()
        if self._stopped_as:  # cancelled while it was being started
            self.stop(self._stopped_as)

    async def _read_output(self, artifacts: Artifacts) -> None:
        """Everything the worker says, until it closes its output. What is not its protocol is kept as
        text."""
        assert self._worker is not None and self._worker.stdout is not None
        async for line in self._worker.stdout:
            try:
                message = json.loads(line)
                text = message.get("text")
                self._rc = message.get("rc", self._rc)
            except (ValueError, TypeError, AttributeError):
                text = line.decode(errors="replace").rstrip()
            if text is not None:
                artifacts.log(text)
                self._output = [*self._output, *text.splitlines()][-_OUTPUT_KEPT:]
                await self._show_warning(text)
        await self._worker.wait()

    async def _show_warning(self, text: str) -> None:
        """Pass a warning of Ansible on; where in the files it arose is left to the log."""
        if text.startswith(_WARNING):
            warning = text.removeprefix(_WARNING).partition("\n")[0]
            await self._log.warning(self.job.urn, self._redact(f"{self.job.playbook}: {warning}"))

    @contextlib.asynccontextmanager
    async def _events(self, play: Play) -> AsyncIterator[None]:
        """Listen to the callback; on leaving, wait until its last event is read."""
        readers: list[asyncio.Task[None]] = []

        async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            readers.append(asyncio.current_task())  # type: ignore[arg-type]
            try:
                async for line in reader:
                    play.handle(json.loads(line))
                    await self._progress.show()
            finally:
                writer.close()

        path = str(self._directory / "events.sock")
        server = await asyncio.start_unix_server(read, path, limit=_LINE_LIMIT)
        try:
            yield
            async with asyncio.timeout(_PATIENCE):
                await asyncio.gather(*readers)
        finally:
            server.close()

    @contextlib.asynccontextmanager
    async def _ticking(self) -> AsyncIterator[None]:
        """Refresh the status line every second, so that a long task is seen to go on."""

        async def tick() -> None:
            while True:
                await self._progress.show()
                await asyncio.sleep(1)

        ticker = asyncio.create_task(tick())
        try:
            yield
        finally:
            ticker.cancel()

    def _raise_unless_well(self, play: Play, artifacts: Artifacts) -> None:
        playbook, log, run = self.job.playbook, artifacts.relative, artifacts.record.run
        hint = f"Log: {log}/log.txt (sitewright runs show {run})"

        def fail(message: str, status: str) -> RunFailed:
            return RunFailed(self._redact(message), hint, status, log, run)

        if self._stopped_as:
            task = f' in task "{self._progress.task}"' if self._progress.task else " before its first task"
            where = f" on {self._progress.hosts}" if self._progress.hosts else ""
            after = f" after {self._progress.seconds:.0f} s"
            limit = f" (timeout {self.job.timeout:g} s)" if self._stopped_as == "timed out" else ""
            raise fail(f"{playbook}: {self._stopped_as}{after}{limit}{task}{where}", self._stopped_as)
        failures = play.failures()
        if self._rc != 0 or failures or not play.complete:
            unreachable = bool(failures) and all(failure.unreachable for failure in failures)
            raise fail(describe(playbook, failures, self._output), "unreachable" if unreachable else "failed")
        if play.plays and play.plays == len(play.plays_without_hosts):
            limit = f" and limit {self.job.limit!r}" if self.job.limit else ""
            raise fail(
                f"{playbook}: nothing was done: no host of environment {self.job.environment!r}{limit} "
                f"matches any of its plays: {', '.join(play.plays_without_hosts)}",
                "failed",
            )

    async def _end(self) -> None:
        """Leave no process and no private file."""
        directory = self._directory
        if self._killer is not None:
            self._killer.cancel()
        if self._worker is not None and self._worker.returncode is None:
            pid = self._worker.pid
            await asyncio.to_thread(processes.kill_run, str(directory), pid)
            await self._worker.wait()
        if self._stopped_as:
            await asyncio.to_thread(processes.kill_run, str(directory))
        private.remove(directory)

    @property
    def _directory(self) -> Path:
        assert self._private is not None
        return self._private


def _tools() -> str:
    """Directory of the pinned programs; empty where they are not built, which only matters to a play that
    needs one."""
    from sitewright.errors import SitewrightError
    from tools.locate import bin_dir

    try:
        return str(bin_dir())
    except SitewrightError:
        return ""
