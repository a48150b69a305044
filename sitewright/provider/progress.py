"""What Pulumi's display shows while a playbook runs."""

from __future__ import annotations

import time
from typing import Protocol

import grpc  # type: ignore[import-untyped]
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

_EVERY = 0.2
"""Least seconds between two status lines of one resource; the display draws about as often."""


class Log(Protocol):
    """Where messages about a resource go."""

    async def status(self, urn: str, message: str) -> None:
        """A line beside the resource that the next one replaces."""

    async def warning(self, urn: str, message: str) -> None:
        """A message that stays."""


class NoLog:
    """For a provider without an engine."""

    async def status(self, urn: str, message: str) -> None:
        return

    async def warning(self, urn: str, message: str) -> None:
        return


class EngineLog:
    """Messages to the Pulumi engine. A message that does not arrive is lost: it must never stop a run."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stub: engine_pb2_grpc.EngineStub | None = None

    async def status(self, urn: str, message: str) -> None:
        await self._send(urn, message, engine_pb2.INFO, ephemeral=True)

    async def warning(self, urn: str, message: str) -> None:
        await self._send(urn, message, engine_pb2.WARNING, ephemeral=False)

    async def _send(
        self, urn: str, message: str, severity: engine_pb2.LogSeverity.ValueType, ephemeral: bool
    ) -> None:
        if self._stub is None:  # made inside of the running event loop
            self._stub = engine_pb2_grpc.EngineStub(grpc.aio.insecure_channel(self._address))
        request = engine_pb2.LogRequest(severity=severity, message=message, urn=urn, ephemeral=ephemeral)
        try:
            await self._stub.Log(request, timeout=5)
        except grpc.aio.AioRpcError:
            return


class Progress:
    """The status line of one run: `Install the kubelet (svc-cp) 12/40, 31 s`."""

    def __init__(self, log: Log, urn: str) -> None:
        self._log = log
        self._urn = urn
        self._started = time.monotonic()
        self._shown = 0.0
        self.total = 0
        self.number = 0
        self.task = ""
        self.note = ""
        self._hosts: set[str] = set()

    def begin_task(self, task: str, number: int) -> None:
        self.task, self.number, self.note = task, number, ""
        self._hosts.clear()

    def begin_host(self, host: str) -> None:
        self._hosts.add(host)

    def end_host(self, host: str) -> None:
        self._hosts.discard(host)

    @property
    def hosts(self) -> str:
        """The hosts the current task is at work on; of many the first and how many more."""
        names = sorted(self._hosts)
        return ", ".join(names) if len(names) <= 2 else f"{names[0]} and {len(names) - 1} more"

    def line(self) -> str:
        where = f" ({self.hosts})" if self._hosts else ""
        count = f" {self.number}/{max(self.total, self.number)}" if self.number else ""
        note = f", {self.note}" if self.note else ""
        return f"{self.task or 'starting Ansible'}{where}{count}{note}, {self.seconds:.0f} s"

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    async def show(self) -> None:
        now = time.monotonic()
        if now - self._shown >= _EVERY:
            self._shown = now
            await self._log.status(self._urn, self.line())
