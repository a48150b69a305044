"""One image to 1, 4, 16 and 64 nodes over links with a limit: what our initial root fetches with, beside curl.

Each node is a network namespace with a link of its own; all ask one nginx, whose link has a limit too. The peer is curl
as dracut's livenet calls it (url-lib of dracut 057). Both get the same bytes from the same server, so what can differ
is what becomes of nodes when the server fails: one request in twenty is answered 503, and half-way its worker dies.
Then 64 nodes have mirrors, each an nginx with such a link of its own; the peer stays curl, which knows one server.
"""

import hashlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lab import paths
from lab.commands import run
from sitewright.errors import SitewrightError
from tests.bench.figure import Figure, progress

NODES = (1, 4, 16, 64)
SERVERS = (2, 4)
BYTES = 16 * 2**20
SERVER_MBIT, NODE_MBIT = 400, 200
PORT = 8080
FETCH = paths.REPOSITORY / "playbooks/roles/boot_image/files/95sitewright-root/fetch.sh"
# "$0" is the file, what follows are the URLs.
OURS = f'. {FETCH}; fetch_root "$0" "$@"'
CURL = 'curl --globoff --location --retry 3 --fail --silent --show-error --output "$0" -- "$1"'
GIVEN_UP_SECONDS = 300


def fetch() -> Iterator[Figure]:
    """Needs root. Leaves no namespace, also when it fails."""
    if os.geteuid() != 0:
        raise SitewrightError("network namespaces are made by root", "Run it as root.")
    # Nodes hold the root file system in memory.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory, _network() as (servers, nodes):
        place, most = Path(directory), max(NODES)
        (place / "image").write_bytes(os.urandom(BYTES))
        with ExitStack() as running:
            for number, namespace in enumerate(servers):
                running.enter_context(_nginx(place, number, namespace))
            seconds: dict[int, float] = {}
            for count in NODES:
                progress(f"fetch: {count} nodes")
                seconds[count], lost, sent = _fetched(OURS, "image", place, servers[:1], nodes[:count])
                peer, peer_lost, peer_sent = _fetched(CURL, "image", place, servers[:1], nodes[:count])
                _require_all(lost, peer_lost)
                details = {"nodes": count, "images_sent": sent[0], "at_the_limit_s": _at_the_limit(count)}
                beside = {"name": "curl", "value": round(peer, 2), "images_sent": peer_sent[0]}
                yield Figure("fetch.last_node", seconds[count], "s", None, beside, details)
            progress("fetch: a server that fails")
            took, lost, sent = _fetched(OURS, "faulty", place, servers[:1], nodes, _worker_dies)
            failing, failing_lost, _ = _fetched(CURL, "faulty", place, servers[:1], nodes, _worker_dies)
            yield _growth(seconds[most] / seconds[1], servers=1)
            details = {"nodes": most, "last_node_s": round(took, 2), "images_sent": sent[0]}
            beside = {"name": "curl", "value": failing_lost, "last_node_s": round(failing, 2)}
            yield Figure("fetch.nodes_lost_when_the_server_fails", lost, "nodes", 0, beside, details)
            yield from _with_mirrors(place, servers, nodes, seconds[1], peer)


def _with_mirrors(
    place: Path, servers: list[str], nodes: list[str], alone: float, peer: float
) -> Iterator[Figure]:
    """alone: seconds of a node that has the servers for itself; peer: of the last node with curl."""
    for count in SERVERS:
        progress(f"fetch: {len(nodes)} nodes, {count} servers")
        took, lost, sent = _fetched(OURS, "image", place, servers[:count], nodes)
        _require_all(lost, 0)
        limit = _at_the_limit(len(nodes), count)
        details = {"nodes": len(nodes), "servers": count, "images_sent": sent, "at_the_limit_s": limit}
        beside = {"name": "curl", "value": round(peer, 2), "servers": 1}
        yield Figure("fetch.last_node", took, "s", None, beside, details)
    yield _growth(took / alone, servers=count)


def _require_all(lost: int, peer_lost: int) -> None:
    if lost or peer_lost:
        raise SitewrightError(f"{lost} of ours and {peer_lost} of curl's did not come at all")


def _growth(ratio: float, servers: int) -> Figure:
    return Figure("fetch.last_node_of_64_to_of_1", ratio, "ratio", 2.0, None, {"servers": servers})


def _at_the_limit(nodes: int, servers: int = 1) -> float:
    """Seconds in which the links could carry it, were each server asked by as many nodes."""
    return round(BYTES * 8 / 1e6 * max(1 / NODE_MBIT, nodes / servers / SERVER_MBIT), 2)


def _fetched(
    program: str,
    where: str,
    place: Path,
    servers: list[str],
    nodes: list[str],
    meanwhile: Callable[[Path, int], None] | None = None,
) -> tuple[float, int, list[float]]:
    """Seconds to the last node, nodes whose file is not the image, and how many images each server sent.

    servers, nodes: namespaces.
    """
    urls = [f"http://{_address(number)}:{PORT}/{where}" for number in range(len(servers))]
    digest, files = _digest(place / "image"), [place / name for name in nodes]
    before, began = [_sent(server) for server in servers], time.monotonic()
    started = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, "sh", "-c", program, str(file), *urls], stderr=subprocess.DEVNULL
        )
        for name, file in zip(nodes, files, strict=True)
    ]
    if meanwhile:
        meanwhile(place, len(nodes))
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
    sent = [_sent(server) - earlier for server, earlier in zip(servers, before, strict=True)]
    return took, lost, [round(count / BYTES, 2) for count in sent]


def _worker_dies(place: Path, count: int) -> None:
    """Half-way, with all that it was sending; nginx starts another one."""
    time.sleep(_at_the_limit(count) / 2)
    master = (place / "nginx-0.pid").read_text().strip()
    for worker in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        os.kill(int(worker), signal.SIGKILL)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sent(namespace: str) -> int:
    """Bytes that have left the server."""
    return int(run("ip", "netns", "exec", namespace, "cat", "/sys/class/net/eth0/statistics/tx_bytes"))


def _address(number: int) -> str:
    """Servers come first, nodes behind them."""
    return f"10.99.0.{number + 1}"


@contextmanager
def _network() -> Iterator[tuple[list[str], list[str]]]:
    """A bridge, and on it servers and nodes. Gives the namespaces of both."""
    middle, servers = f"sitewright-bench-{os.getpid()}", max(SERVERS)
    names = [f"{middle}-{number}" for number in range(servers + max(NODES))]
    try:
        for name in (middle, *names):
            run("ip", "netns", "add", name)
        run("ip", "-n", middle, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", middle, "link", "set", "br0", "up")
        for number, name in enumerate(names):
            port = f"p{number}"
            run("ip", "-n", middle, "link", "add", port, "type", "veth", "peer", "eth0", "netns", name)
            run("ip", "-n", middle, "link", "set", port, "master", "br0", "up")
            run("ip", "-n", name, "address", "add", f"{_address(number)}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            _limit(*((name, "eth0", SERVER_MBIT) if number < servers else (middle, port, NODE_MBIT)))
        yield names[:servers], names[servers:]
    finally:
        for name in (*names, middle):
            with suppress(SitewrightError):
                run("ip", "netns", "delete", name)


def _limit(namespace: str, device: str, mbit: int) -> None:
    limit = ("tbf", "rate", f"{mbit}mbit", "burst", "256k", "latency", "50ms")
    run("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", *limit)


@contextmanager
def _nginx(place: Path, number: int, namespace: str) -> Iterator[None]:
    config, pid, log = (place / f"nginx-{number}.{kind}" for kind in ("conf", "pid", "log"))
    config.write_text(
        f"""daemon off;
user root;
worker_processes 1;
pid {pid};
error_log {log};
events {{ worker_connections 256; }}
http {{
  access_log off;
  sendfile on;
  split_clients $request_id $busy {{ 5% 1; * ""; }}
  server {{
    listen {_address(number)}:{PORT};
    location = /image {{ alias {place}/image; }}
    location = /faulty {{ if ($busy) {{ return 503; }} alias {place}/image; }}
  }}
}}
"""
    )
    command = ["ip", "netns", "exec", namespace, "nginx", "-c", str(config), "-e", str(log)]
    process = subprocess.Popen(command)
    try:
        while not pid.is_file():
            if process.poll() is not None:
                raise SitewrightError(f"nginx ended: {log.read_text()[-500:]}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(20)
