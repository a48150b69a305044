"""PostgreSQL, where a gateway keeps what teams use. A site has one of its own; the lab runs Debian's.

Its files are in <state>/database and go with the lab. PostgreSQL refuses to be root's, and runs as Debian's user
`postgres` instead.
"""

import os
import shutil
from pathlib import Path

from lab import paths
from lab.commands import run
from sitewright.errors import SitewrightError
from sitewright.site.service_sections import GatewayDatabase

# Debian 12 has 15; where there are several, the newest.
BIN = max(
    Path("/usr/lib/postgresql").glob("[0-9]*/bin"),
    key=lambda found: int(found.parent.name),
    default=Path("/usr/lib/postgresql/15/bin"),
)
USER = "postgres"
CLIENTS = "local all all peer\nhostssl all all 0.0.0.0/0 scram-sha-256\n"


def directory() -> Path:
    return paths.state_dir() / "database"


def prepare(place: Path, wanted: GatewayDatabase) -> None:
    """Makes the files of PostgreSQL in a directory that has its tls.crt and tls.key, unless they are there.

    Raises: SitewrightError where a program of PostgreSQL fails; nothing is kept then.
    """
    if os.geteuid() == 0:
        for file in (place, place / "tls.crt", place / "tls.key"):
            shutil.chown(file, USER, USER)
    data, scratch = place / "data", place / "data.new"
    if data.is_dir():
        return
    shutil.rmtree(scratch, ignore_errors=True)
    given = ("-U", USER, "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions")
    run(*_as_user(BIN / "initdb", "-D", scratch, *given))
    (scratch / "pg_hba.conf").write_text(CLIENTS)
    password = Path(wanted.password_file).read_text().strip()
    _single_user(
        scratch,
        f"create role {wanted.user} login password '{_quoted(password)}'",
        f"create database {wanted.name} owner {wanted.user}",
    )
    scratch.rename(data)


def command(place: Path, host: str, port: int) -> list[str]:
    """PostgreSQL with what `prepare` made."""
    settings = {
        "listen_addresses": host,
        "port": port,
        "unix_socket_directories": place,
        "ssl": "on",
        "ssl_cert_file": place / "tls.crt",
        "ssl_key_file": place / "tls.key",
        "dynamic_shared_memory_type": "mmap",  # a file that goes with the others
        "shared_buffers": "16MB",
        "max_connections": 20,
    }
    given = [f"--{name}={value}" for name, value in settings.items()]
    return _as_user(BIN / "postgres", "-D", place / "data", *given)


def _single_user(data: Path, *statements: str) -> None:
    """Before anybody can connect. PostgreSQL says what is wrong with a statement, and ends with 0 all the same."""
    arguments = ("--single", "-j", "-D", data, "-c", "log_min_error_statement=panic", "postgres")
    said = run(
        *_as_user("sh", "-c", '"$@" 2>&1', "sh", BIN / "postgres", *arguments),
        stdin=";\n\n".join((*statements, "")),
    )
    if errors := [line for line in said.splitlines() if "ERROR" in line or "FATAL" in line]:
        raise SitewrightError(f"PostgreSQL did not make the gateway's database: {errors[0]}")


def _as_user(*command: str | Path) -> list[str]:
    given = [str(part) for part in command]
    if os.geteuid():
        return given
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--", *given]


def _quoted(text: str) -> str:
    return text.replace("'", "''")
