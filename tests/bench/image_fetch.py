"""One image to 1, 4, 16 and 64 nodes over links with a limit: what our initial root fetches with, beside curl.

Each node is a network namespace with a link of its own; all ask one nginx, whose link has a limit too. The peer is curl
as dracut's livenet calls it (url-lib of dracut 057). Both get the same bytes from the same server, so what can differ
is what becomes of nodes when the server fails: one request in twenty is answered 503, and half-way its worker dies.
"""

import hashlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab import paths
from lab.commands import run
from sitewright.errors import SitewrightError
from tests.bench.figure import Figure, progress

NODES = (1, 4, 16, 64)
BYTES = 16 * 2**20
SERVER_MBIT, NODE_MBIT = 400, 200
ADDRESS, PORT = "10.99.0.1", 8080
FETCH = paths.REPOSITORY / "playbooks/roles/boot_image/files/95sitewright-root/fetch.sh"
OURS = f'. {FETCH}; fetch_root "$0" "$1"'
CURL = 'curl --globoff --location --retry 3 --fail --silent --show-error --output "$1" -- "$0"'
GIVEN_UP_SECONDS = 300


def fetch() -> Iterator[Figure]:
    """Needs root. Leaves no namespace, also when it fails."""
    if os.geteuid() != 0:
        raise SitewrightError("network namespaces are made by root", "Run it as root.")
    # Nodes hold the root file system in memory.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory, _network(max(NODES)) as names:
        place = Path(directory)
        image = place / "image"
        image.write_bytes(os.urandom(BYTES))
        with _nginx(place, names[0]):
            seconds: dict[int, float] = {}
            for count in NODES:
                progress(f"fetch: {count} nodes")
                seconds[count], lost, sent = _fetched(OURS, "image", place, names, count)
                peer, peer_lost, peer_sent = _fetched(CURL, "image", place, names, count)
                if lost or peer_lost:
                    raise SitewrightError(f"{lost} of ours and {peer_lost} of curl's did not come at all")
                details = {"nodes": count, "images_sent": sent, "at_the_limit_s": _at_the_limit(count)}
                beside = {"name": "curl", "value": round(peer, 2), "images_sent": peer_sent}
                yield Figure("fetch.last_node", seconds[count], "s", None, beside, details)
            progress("fetch: a server that fails")
            took, lost, sent = _fetched(OURS, "faulty", place, names, max(NODES), _worker_dies)
            peer, peer_lost, _ = _fetched(CURL, "faulty", place, names, max(NODES), _worker_dies)
    growth = seconds[max(NODES)] / seconds[1]
    yield Figure("fetch.last_node_of_64_to_of_1", growth, "ratio", 2.0, None, {"one_server": True})
    details = {"nodes": max(NODES), "last_node_s": round(took, 2), "images_sent": sent}
    beside = {"name": "curl", "value": peer_lost, "last_node_s": round(peer, 2)}
    yield Figure("fetch.nodes_lost_when_the_server_fails", lost, "nodes", 0, beside, details)


def _at_the_limit(count: int) -> float:
    """Seconds in which the links could carry it."""
    return round(BYTES * 8 / 1e6 * max(1 / NODE_MBIT, count / SERVER_MBIT), 2)


def _fetched(
    program: str,
    where: str,
    place: Path,
    names: list[str],
    count: int,
    meanwhile: Callable[[Path, int], None] | None = None,
) -> tuple[float, int, float]:
    """Seconds to the last node, nodes whose file is not the image, and how many images the server sent."""
    url, digest = f"http://{ADDRESS}:{PORT}/{where}", _digest(place / "image")
    files = [place / f"node-{number}" for number in range(count)]
    before, began = _sent(names[0]), time.monotonic()
    started = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, "sh", "-c", program, url, str(file)], stderr=subprocess.DEVNULL
        )
        for name, file in zip(names[1:], files, strict=False)
    ]
    if meanwhile:
        meanwhile(place, count)
    for process in started:
        try:
            process.wait(max(0.0, began + GIVEN_UP_SECONDS - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    took = time.monotonic() - began
    lost = sum(not file.exists() or _digest(file) != digest for file in files)
    for file in files:
        file.unlink(missing_ok=True)
    return took, lost, round((_sent(names[0]) - before) / BYTES, 2)


def _worker_dies(place: Path, count: int) -> None:
    """Half-way, with all that it was sending; nginx starts another one."""
    time.sleep(_at_the_limit(count) / 2)
    master = (place / "nginx.pid").read_text().strip()
    for worker in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        os.kill(int(worker), signal.SIGKILL)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sent(namespace: str) -> int:
    """Bytes that have left the server."""
    return int(run("ip", "netns", "exec", namespace, "cat", "/sys/class/net/eth0/statistics/tx_bytes"))


@contextmanager
def _network(count: int) -> Iterator[list[str]]:
    """A bridge, and on it the server and the nodes. Gives their namespaces, the server's first."""
    middle = f"sitewright-bench-{os.getpid()}"
    names = [f"{middle}-{number}" for number in range(count + 1)]
    try:
        for name in (middle, *names):
            run("ip", "netns", "add", name)
        run("ip", "-n", middle, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", middle, "link", "set", "br0", "up")
        for number, name in enumerate(names):
            port = f"p{number}"
            run("ip", "-n", middle, "link", "add", port, "type", "veth", "peer", "eth0", "netns", name)
            run("ip", "-n", middle, "link", "set", port, "master", "br0", "up")
            run("ip", "-n", name, "address", "add", f"10.99.0.{number + 1}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            _limit(*((name, "eth0", SERVER_MBIT) if number == 0 else (middle, port, NODE_MBIT)))
        yield names
    finally:
        for name in (*names, middle):
            with suppress(SitewrightError):
                run("ip", "netns", "delete", name)


def _limit(namespace: str, device: str, mbit: int) -> None:
    limit = ("tbf", "rate", f"{mbit}mbit", "burst", "256k", "latency", "50ms")
    run("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", *limit)


@contextmanager
def _nginx(place: Path, namespace: str) -> Iterator[None]:
    config = place / "nginx.conf"
    config.write_text(
        f"""daemon off;
user root;
worker_processes 1;
pid {place}/nginx.pid;
error_log {place}/nginx.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  sendfile on;
  split_clients $request_id $busy {{ 5% 1; * ""; }}
  server {{
    listen {ADDRESS}:{PORT};
    location = /image {{ alias {place}/image; }}
    location = /faulty {{ if ($busy) {{ return 503; }} alias {place}/image; }}
  }}
}}
"""
    )
    command = ["ip", "netns", "exec", namespace, "nginx", "-c", str(config), "-e", f"{place}/nginx.log"]
    process = subprocess.Popen(command)
    try:
        while not (place / "nginx.pid").is_file():
            if process.poll() is not None:
                raise SitewrightError(f"nginx ended: {(place / 'nginx.log').read_text()[-500:]}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(20)
