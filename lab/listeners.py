"""Who listens on a TCP port of this host, from /proc."""

from dataclasses import dataclass
from pathlib import Path

LISTEN = "0A"  # state in /proc/net/tcp
LOCAL = {"0100007F", "00000000", "0" * 32, "0" * 24 + "01000000", "0000000000000000FFFF00000100007F"}


@dataclass(frozen=True)
class Listener:
    pid: int  # 0 when it cannot be told
    program: str

    def __str__(self) -> str:
        return f"{self.program} (process {self.pid})" if self.pid else "a process that cannot be named"


def on_port(port: int) -> Listener | None:
    """Who takes connections to 127.0.0.1:port."""
    inodes = {inode for name in ("tcp", "tcp6") for inode in _listening(Path(f"/proc/net/{name}"), port)}
    return _owner(inodes) if inodes else None


def _listening(table: Path, port: int) -> list[str]:
    rows = [line.split() for line in table.read_text().splitlines()[1:]] if table.exists() else []
    found = []
    for row in rows:
        address, _, hexadecimal = row[1].partition(":")
        if row[3] == LISTEN and int(hexadecimal, 16) == port and address in LOCAL:
            found.append(row[9])
    return found


def _owner(inodes: set[str]) -> Listener:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in wanted for link in (process / "fd").iterdir()):
                return Listener(int(process.name), (process / "comm").read_text().strip())
        except OSError:  # gone meanwhile
            continue
    return Listener(0, "")
