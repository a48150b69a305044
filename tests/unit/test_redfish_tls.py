"""TLS with a BMC, against a real server: the CA is pinned and checked before a password is sent."""

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sitewright.errors import SitewrightError
from sitewright.provisioning.redfish import Bmc, power

BMC = Bmc("x1000c0s0b0n0", "https://bmc.test", "root", "canary-password", timeout=1)
SYSTEM = "/redfish/v1/Systems/1"
RESOURCES = {
    "/redfish/v1/Systems": {"Members": [{"@odata.id": SYSTEM}]},
    SYSTEM: {"PowerState": "On", "Actions": {}},
}


def certificate(directory: Path, name: str, host: str) -> Path:
    """A self-signed certificate with its key in the same file."""
    file = directory / f"{name}.pem"
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={host}"]
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *made, *subject, "-keyout", file, "-out", directory / "crt"]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text((directory / "crt").read_text() + file.read_text())
    return file


class _Bmc(BaseHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = json.dumps(RESOURCES[self.path]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def tls_bmc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bmc, Path]]:
    directory = tmp_path_factory.mktemp("tls")
    own, other = (
        certificate(directory, "own", "IP:127.0.0.1"),
        certificate(directory, "other", "IP:127.0.0.1"),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Bmc)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield replace(BMC, url=f"https://127.0.0.1:{server.server_port}", ca_file=own), other
    server.shutdown()
    server.server_close()


def test_the_pinned_ca_is_accepted(tls_bmc: tuple[Bmc, Path]) -> None:
    assert power(tls_bmc[0], "status").after == "On"


def test_another_ca_is_refused_by_name_before_anything_is_sent(tls_bmc: tuple[Bmc, Path]) -> None:
    bmc, other = tls_bmc
    _Bmc.asked.clear()
    with pytest.raises(SitewrightError) as refused:
        power(replace(bmc, ca_file=other), "status")
    assert "its certificate was not accepted" in refused.value.message
    assert str(other) in refused.value.message
    assert _Bmc.asked == []


def test_a_certificate_for_another_host_is_refused(tls_bmc: tuple[Bmc, Path]) -> None:
    with pytest.raises(SitewrightError, match=r"its certificate was not accepted: .*localhost"):
        power(replace(tls_bmc[0], url=tls_bmc[0].url.replace("127.0.0.1", "localhost")), "status")


def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SitewrightError, match=r"cannot read the CA file .*nowhere.pem: No such file"):
        power(replace(BMC, ca_file=tmp_path / "nowhere.pem"), "status")
