"""Image servers that do not behave, for tests of how the initial root fetches the root file system."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
MODULE = REPOSITORY / "playbooks/roles/boot_image/files/95sitewright-root"
ROOT = bytes(range(256)) * 4096  # 1 MiB
PLACE = f"{'a' * 64}/rootfs.squashfs"
QUICK = {"FETCH_FIRST_PAUSE": "20", "FETCH_LONGEST_PAUSE": "80", "FETCH_SILENT_SECONDS": "1"}


@dataclass
class Server:
    """behaviours: of one request each, in turn; then it behaves. ranges: what was asked for, "" for all.

    base: where the site file has the server; url: of the root, below it.
    """

    behaviours: list[Callable[["Handler"], None]]
    base: str
    ranges: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.base}/{PLACE}"


class Handler(BaseHTTPRequestHandler):
    server: "_Http"

    def do_GET(self) -> None:
        told = self.server.told
        told.ranges.append(self.headers.get("range", ""))
        told.paths.append(self.path)
        (told.behaviours.pop(0) if told.behaviours else whole)(self)

    def log_message(self, *_: object) -> None:
        """Nothing."""

    @property
    def first(self) -> int:
        """The first byte that was asked for."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(found[1]) if found else 0

    def head(self, length: int | None) -> None:
        if self.first:
            self.send_response(206)
            self.send_header("content-range", f"bytes {self.first}-{len(ROOT) - 1}/{len(ROOT)}")
        else:
            self.send_response(200)
        if length is not None:
            self.send_header("content-length", str(length))
        self.end_headers()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    told: Server

    def handle_error(self, *_: object) -> None:
        """Nothing: a client that hangs up is what some tests are about."""


ALWAYS = 99  # more requests than a test makes
DOWN = Server([], "http://127.0.0.1:1/boot")


def whole(handler: Handler) -> None:
    handler.head(len(ROOT) - handler.first)
    handler.wfile.write(ROOT[handler.first :])


def busy(handler: Handler) -> None:
    handler.send_error(503)


def not_there(handler: Handler) -> None:
    handler.send_error(404)


def hangs_up(handler: Handler) -> None:
    """Closes before it has said anything."""
    handler.close_connection = True


def cut_short(handler: Handler) -> None:
    """Promises all, gives 300,000 bytes more."""
    handler.head(len(ROOT) - handler.first)
    handler.wfile.write(ROOT[handler.first : handler.first + 300_000])


def cut_short_without_a_length(handler: Handler) -> None:
    handler.head(None)
    handler.wfile.write(ROOT[:300_000])


def goes_silent(handler: Handler) -> None:
    handler.head(len(ROOT) - handler.first)
    handler.wfile.write(ROOT[handler.first : handler.first + 300_000])
    handler.wfile.flush()
    time.sleep(20)


def drips(handler: Handler) -> None:
    """A hundred bytes, ten times a second, of which it never gets done."""
    handler.head(len(ROOT) - handler.first)
    for start in range(handler.first, handler.first + 4000, 100):
        handler.wfile.write(ROOT[start : start + 100])
        time.sleep(0.1)


def knows_no_ranges(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("content-length", str(len(ROOT)))
    handler.end_headers()
    handler.wfile.write(ROOT)


def whole_and_then_hangs_up(handler: Handler) -> None:
    """Promises more than there is."""
    handler.head(len(ROOT) + 1)
    handler.wfile.write(ROOT)


def has_no_more(handler: Handler) -> None:
    handler.send_error(416)


def half_copied(handler: Handler) -> None:
    """A file there that ends after 300,000 bytes, and says so."""
    if handler.first >= 300_000:
        handler.send_error(416)
        return
    handler.head(300_000 - handler.first)
    handler.wfile.write(ROOT[handler.first : 300_000])


def other_bytes(handler: Handler) -> None:
    handler.head(len(ROOT) - handler.first)
    handler.wfile.write(bytes(len(ROOT) - handler.first))


def other_bytes_cut_short(handler: Handler) -> None:
    handler.head(len(ROOT) - handler.first)
    handler.wfile.write(bytes(300_000))


@contextmanager
def image_servers() -> Iterator[Callable[..., Server]]:
    """Gives what starts one, which behaves as it is told for a request each, and then well; all end with the block."""
    servers = []

    def start(*behaviours: Callable[[Handler], None]) -> Server:
        http = _Http(("127.0.0.1", 0), Handler)
        http.told = Server(list(behaviours), f"http://127.0.0.1:{http.server_port}/boot")
        threading.Thread(target=http.serve_forever, daemon=True).start()
        servers.append(http)
        return http.told

    try:
        yield start
    finally:
        for http in servers:
            http.shutdown()
            http.server_close()
