import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sitewright.artifacts import registry as registry_module
from sitewright.artifacts.registry import Registry
from sitewright.errors import SitewrightError

DIGEST = "sha256:" + "1" * 64


@pytest.fixture
def serve():
    """Starts a server that answers every GET with one status; gives its URL."""
    servers = []

    def start(status, wait=0.0):
        done = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                done.wait(wait)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append((server, done))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, done in servers:
        done.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def crane(tmp_path):
    """A stand-in for crane that runs the shell script given."""

    def write(script):
        path = tmp_path / "crane"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return write


@pytest.mark.parametrize("status", [200, 401])
def test_a_registry_that_answers_is_taken_also_when_it_wants_credentials(serve, tmp_path, status):
    Registry(serve(status), tmp_path).require()


def test_another_server_is_refused_with_its_address_and_answer(serve, tmp_path):
    url = serve(404)
    with pytest.raises(
        SitewrightError, match=rf"registry {url}/v2/: answered 404\n  Check registry\.endpoint"
    ):
        Registry(url, tmp_path).require()


def test_a_registry_that_is_down_is_named(tmp_path):
    with pytest.raises(SitewrightError, match=r"registry http://127\.0\.0\.1:1/v2/: not reached: .*refused"):
        Registry("http://127.0.0.1:1", tmp_path).require()


def test_a_registry_that_is_too_slow_is_named(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(registry_module, "ANSWER_TIMEOUT", 0.2)
    with pytest.raises(SitewrightError, match=r"/v2/: no(t| answer)? .*(within 0\.2 s|timed out)"):
        Registry(serve(200, wait=3), tmp_path).require()


def test_what_the_registry_has_and_what_it_lacks(crane):
    script = f'case "$2" in *:there) echo {DIGEST};; *) echo "MANIFEST_UNKNOWN: unknown" >&2; exit 1;; esac'
    found = Registry("http://r", crane(script)).digests([("tool", "there"), ("tool", "gone")])
    assert found == {("tool", "there"): DIGEST, ("tool", "gone"): None}


def test_an_answer_that_is_neither_is_an_error_and_not_a_missing_image(crane):
    with pytest.raises(SitewrightError, match=r"registry http://r: r/tool:v1: UNAUTHORIZED"):
        Registry("http://r", crane("echo UNAUTHORIZED >&2; exit 1")).digests([("tool", "v1")])


def test_an_image_is_pushed_under_its_name_and_plainly_only_over_http(crane, tmp_path):
    program = crane(f'echo "$@" >> {tmp_path}/calls')
    Registry("http://r:5000/", program).push(tmp_path / "layout", "tool", "v1")
    Registry("https://r", program).push(tmp_path / "layout", "tool", "v1")
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"push {tmp_path}/layout r:5000/tool:v1 --insecure",
        f"push {tmp_path}/layout r/tool:v1",
    ]


def test_a_failed_push_names_the_image_and_the_reason(crane, tmp_path):
    with pytest.raises(SitewrightError, match=r"pushing r/tool:v1 failed: no space left on device"):
        Registry("http://r", crane("echo no space left on device >&2; exit 1")).push(tmp_path, "tool", "v1")
