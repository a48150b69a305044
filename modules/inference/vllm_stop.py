"""Runs before a replica of vLLM is told to end, by the kubelet in its container: `python -c <this file> PORT SECONDS`.

A replica that serves is left alone for SECONDS, until every node has stopped sending to it. One that does not listen
yet is killed: vLLM 0.32 takes SIGTERM while its engine starts, and then both wait for each other (seen: server and
engine in poll, for as long as they were let). It would use all of its grace, and an update stands still behind it.
No module of ours is there. It needs the pod's own namespace of processes: process 1 cannot be killed from within.
"""

import os
import signal
import socket
import sys
import time
from pathlib import Path

SERVER = b"vllm.entrypoints.openai.api_server"
TIMEOUT = 5  # seconds; one that hangs is not one that starts


def starts(port: int) -> bool:
    """Whether nobody listens yet."""
    try:
        socket.create_connection(("127.0.0.1", port), TIMEOUT).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def servers(proc: Path = Path("/proc")) -> list[int]:
    """Numbers of the server's processes; its engine's is another program to look at, and ends with it."""
    found = []
    for command in proc.glob("[0-9]*/cmdline"):
        try:
            arguments = command.read_bytes().split(b"\0")
        except OSError:
            continue
        if SERVER in arguments:
            found.append(int(command.parent.name))
    return found


def main(port: int, seconds: float) -> None:
    if not starts(port):
        time.sleep(seconds)
        return
    for number in servers():
        os.kill(number, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
