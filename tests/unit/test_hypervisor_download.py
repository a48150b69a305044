"""What the hypervisor says when an image cannot be had from its server."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from lab.hypervisor import download
from sitewright.errors import SitewrightError

IMAGE = b"hsqs" + bytes(100)
CHECKSUM = hashlib.sha512(IMAGE).hexdigest()


@pytest.fixture
def server():
    """An image server that holds IMAGE; it waits as long as `answer` says before the body."""
    go = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        seconds = 0.0

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(IMAGE)))
            self.end_headers()
            go.wait(Handler.seconds)
            self.wfile.write(IMAGE)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        made.handler = Handler
        yield made
        go.set()
        made.shutdown()


def fetch(url, target, checksum=CHECKSUM):
    return download.fetch(url, target, checksum, lambda there, total: True)


def url(server):
    return f"http://127.0.0.1:{server.server_port}/vm/debian"


def test_an_image_is_had_whole(server, tmp_path):
    assert fetch(url(server), tmp_path / "image") == len(IMAGE)
    assert (tmp_path / "image").read_bytes() == IMAGE


def test_a_wrong_checksum_is_refused_with_both_and_leaves_nothing(server, tmp_path):
    with pytest.raises(SitewrightError) as refused:
        fetch(url(server), tmp_path / "image", "f" * 128)
    assert refused.value.message == (
        f"{url(server)}: the SHA-512 of the file is {CHECKSUM}, and {'f' * 128} was expected"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_down_is_named(tmp_path):
    with pytest.raises(SitewrightError, match=r"http://127\.0\.0\.1:1/debian: .*Connection refused"):
        fetch("http://127.0.0.1:1/debian", tmp_path / "image")


def test_a_server_that_says_nothing_is_named(server, tmp_path, monkeypatch):
    server.handler.seconds = 10.0
    monkeypatch.setattr(download, "TIMEOUT", httpx.Timeout(0.2))
    with pytest.raises(SitewrightError, match=rf"{url(server)}: timed out"):
        fetch(url(server), tmp_path / "image")
