"""PostgreSQL as the lab runs it, as a local process."""

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg

from lab import database
from lab.credentials import SERVER, Authority
from sitewright.site.service_sections import GatewayDatabase
from tests.lab.gateway_program import free_port, wait_for

PASSWORD = "it's the password of the database 0123456789"


class Database:
    """place: a directory that the user of PostgreSQL reaches."""

    def __init__(self, place: Path) -> None:
        assert (database.BIN / "postgres").exists(), (
            "install the package postgresql (images/lab-packages.txt)"
        )
        self.place, self.port, self.secret = place / "database", free_port(), place / "secret"
        self.secret.mkdir()
        self.password_file, self.ca_file = self.secret / "password", self.secret / "ca.crt"
        self.password_file.write_text(PASSWORD + "\n")
        pki = Authority(place / "pki")
        pki.issue("tls", SERVER, "database", ["127.0.0.1"], directory=self.place)
        pki.publish(self.ca_file)
        self.section = GatewayDatabase(
            addresses=[self.address], password_file=self.password_file, ca_file=self.ca_file
        )
        database.prepare(self.place, self.section)
        self.log = place / "log"
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def variables(self) -> dict[str, str]:
        """Of a gateway that writes here."""
        return {"GATEWAY_DATABASE_SECRET": str(self.secret)}

    def start(self) -> None:
        self.process = subprocess.Popen(
            database.command(self.place, "127.0.0.1", self.port),
            stdout=self.log.open("a"),
            stderr=subprocess.STDOUT,
        )
        wait_for(self._answers, "PostgreSQL", 30)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            return self.ask("select 1") == [(1,)]
        except (OSError, asyncpg.PostgresError):
            return False

    def ask(self, statement: str, *values: Any) -> list[tuple]:
        return [tuple(row) for row in asyncio.run(self._asked("fetch", statement, *values))]

    def do(self, statements: str) -> None:
        asyncio.run(self._asked("execute", statements))

    def disconnect_others(self) -> None:
        mine = "pid <> pg_backend_pid() and usename = user"
        self.ask(f"select pg_terminate_backend(pid) from pg_stat_activity where {mine}")

    async def _asked(self, how: str, *given: Any) -> Any:
        connection = await asyncpg.connect(
            host="127.0.0.1",
            port=self.port,
            database=self.section.name,
            user=self.section.user,
            password=PASSWORD,
            ssl=ssl.create_default_context(cafile=str(self.ca_file)),
        )
        try:
            return await getattr(connection, how)(*given)
        finally:
            await connection.close()

    def kill(self) -> None:
        """All of it at once, as when its machine loses power."""
        self._all(signal.SIGKILL)
        self.process.wait(20)

    def hang(self) -> None:
        self._all(signal.SIGSTOP)

    def go_on(self) -> None:
        self._all(signal.SIGCONT)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.go_on()
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)

    def _all(self, what: signal.Signals) -> None:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in [self.process.pid, *map(int, children)]:
            with suppress(ProcessLookupError):  # one of them ended meanwhile
                os.kill(pid, what)


@contextmanager
def database_there() -> Iterator[Database]:
    """Not below pytest's directories, which are closed to other users."""
    place = Path(tempfile.mkdtemp(prefix="sitewright-database-"))
    place.chmod(0o755)
    made = Database(place)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(place)
