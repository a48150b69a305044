"""The sushy-tools emulator with our driver, over HTTPS with a password.

Source: sushy-tools 2.2.0, `sushy_tools.emulator.main`, whose own `main` knows no driver but its own.
"""

import importlib.util
import socket
import ssl
import types
from pathlib import Path
from typing import Any

import bcrypt
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from lab.bmc.driver import NodeSystems
from sitewright.errors import SitewrightError

# The emulator hashes at each request. The password beside this file is in clear: more rounds protect nothing.
BCRYPT_ROUNDS = 5


def emulator(systems: NodeSystems, password_file: Path, state: Path) -> Any:
    """The emulator as a WSGI application. password_file: htpasswd with bcrypt entries."""
    main = _own_module()
    # The emulator has no way to be given a driver: it asks the fake driver's class for one.
    initialize = types.SimpleNamespace(initialize=lambda config, logger: lambda: systems)
    main.fakedriver = types.SimpleNamespace(FakeDriver=initialize)
    main.app.configure(
        extra_config={
            "SUSHY_EMULATOR_FAKE_DRIVER": True,
            "SUSHY_EMULATOR_AUTH_FILE": str(password_file),
            "SUSHY_EMULATOR_STATE_DIR": str(state),
            "SUSHY_EMULATOR_FEATURE_SET": "full",
        }
    )
    return main.app


def _own_module() -> Any:
    """The emulator's module once more: it has one application, which keeps password and systems of its first server."""
    spec = importlib.util.find_spec("sushy_tools.emulator.main")
    assert spec and spec.loader, "sushy-tools is one of our packages"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_password_file(file: Path, username: str, password: str) -> Path:
    """An htpasswd file with one user, readable by root only."""
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(BCRYPT_ROUNDS)).decode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text(f"{username}:{digest}\n")
    return file


class _Handler(WSGIRequestHandler):
    timeout = 60  # seconds a client may keep a connection without asking anything

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Nothing: reading the power state once a second would fill the log."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises SitewrightError if the address is taken or not there."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SitewrightError(
            f"a BMC cannot listen on {host}:{port}: {error.strerror}",
            "`sitewright lab status` shows whether the lab's network is there and who listens.",
        ) from error
    listener.listen(64)
    return listener


def https_server(app: Any, listener: socket.socket, certificate: Path, key: Path) -> BaseWSGIServer:
    """Serves until `shutdown()`. Raises SitewrightError if certificate or key cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise SitewrightError(
            f"a BMC cannot use its certificate {certificate} with {key}: {error}",
            "`sitewright lab down` and `sitewright lab up` make new ones.",
        ) from error
    host, port = listener.getsockname()[:2]
    # Given as a descriptor: binding here would look the address up in a DNS that the lab does not have.
    server = make_server(host, port, app, threaded=True, request_handler=_Handler, fd=listener.fileno())
    # The handshake is done by the thread that serves the connection: a client that connects and says
    # nothing, such as a health check, must not hold up the others.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.ssl_context = context
    return server
