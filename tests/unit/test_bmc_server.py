"""The emulator with our driver, over real HTTPS: what a Redfish client of ours sees of it."""

import base64
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from bmc_node import NODE
from werkzeug.test import Client

from lab.bmc import server
from lab.bmc.driver import Board, NodeSystems
from sitewright.errors import SitewrightError
from sitewright.provisioning.redfish import Bmc, power


class FakePower:
    """Remembers which button was pressed."""

    def __init__(self) -> None:
        self.state = "Off"
        self.pressed: list[str] = []

    def on(self) -> None:
        self.pressed.append("on")
        self.state = "On"

    def off(self) -> None:
        self.pressed.append("off")
        self.state = "Off"

    def shutdown(self) -> None:
        self.pressed.append("shutdown")
        self.state = "Off"

    def restart(self, graceful: bool) -> None:
        self.pressed.append(f"restart graceful={graceful}")


POWER = FakePower()


@pytest.fixture(scope="module")
def bmc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bmc]:
    """One server for all tests of this file."""
    directory = tmp_path_factory.mktemp("bmc")
    certificate, key = directory / "tls.crt", directory / "tls.key"
    made = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=bmc",
    ]
    alternative = ["-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *made, *alternative, "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    passwords = server.write_password_file(directory / "htpasswd", "admin", "right")
    systems = NodeSystems([Board(NODE, POWER)])  # type: ignore[arg-type]
    listener = server.listen("127.0.0.1", 0)
    https = server.https_server(server.emulator(systems, passwords, directory), listener, certificate, key)
    threading.Thread(target=https.serve_forever, args=(0.02,), daemon=True).start()
    yield Bmc(NODE.xname, f"https://127.0.0.1:{https.port}", "admin", "right", certificate, system=NODE.xname)
    https.shutdown()
    listener.close()


@pytest.fixture(autouse=True)
def _off() -> None:
    POWER.state = "Off"
    POWER.pressed.clear()


def basic(username: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


def client(bmc: Bmc, **options: Any) -> httpx.Client:
    options = {"auth": ("admin", "right")} | options
    return httpx.Client(
        base_url=bmc.url, verify=ssl.create_default_context(cafile=bmc.ca_file), trust_env=False, **options
    )


@pytest.mark.parametrize(
    ("action", "before", "pressed"),
    [
        ("on", "Off", ["on"]),
        ("off", "On", ["off"]),
        ("shutdown", "On", ["shutdown"]),
        ("restart", "On", ["restart graceful=True"]),
        ("force-restart", "On", ["restart graceful=False"]),
        ("cycle", "On", ["off", "on"]),
    ],
)
def test_an_action_presses_the_button(bmc: Bmc, action: str, before: str, pressed: list[str]) -> None:
    POWER.state = before
    power(bmc, action)
    assert POWER.pressed == pressed


def test_a_wrong_password_and_an_unknown_user_are_refused(bmc: Bmc) -> None:
    for wrong in (replace(bmc, password="wrong"), replace(bmc, username="root")):
        with pytest.raises(SitewrightError, match="was refused"):
            power(wrong, "on")
    assert POWER.pressed == []


def test_two_emulators_of_a_process_keep_their_own_systems_and_passwords(tmp_path: Path) -> None:
    def first_system(xname: str, password: str) -> int:
        return (
            client_of[xname]
            .get(f"/redfish/v1/Systems/{xname}", headers={"Authorization": basic("admin", password)})
            .status_code
        )

    client_of = {}
    for xname in ("x1000c0s0b0n0", "x1000c0s0b1n0"):
        systems = NodeSystems([Board(replace(NODE, xname=xname), POWER)])  # type: ignore[arg-type]
        passwords = server.write_password_file(tmp_path / f"{xname}.htpasswd", "admin", xname)
        client_of[xname] = Client(server.emulator(systems, passwords, tmp_path))
    for xname in client_of:
        # By its name, a system is found by a redirect to its UUID.
        assert first_system(xname, xname) == 307
        assert first_system(xname, "right") == 401


def test_the_password_file_is_for_root_only_and_holds_no_password(bmc: Bmc, tmp_path: Path) -> None:
    file = server.write_password_file(tmp_path / "htpasswd", "admin", "canary")
    assert file.stat().st_mode & 0o777 == 0o600
    assert "canary" not in file.read_text()


def test_a_client_that_says_nothing_does_not_hold_up_the_others(bmc: Bmc) -> None:
    with socket.create_connection(("127.0.0.1", int(bmc.url.rsplit(":", 1)[1]))):
        assert power(bmc, "status").after == "Off"


def test_a_system_asked_for_by_name_is_found_by_a_redirect_to_its_uuid(bmc: Bmc) -> None:
    with client(bmc) as session:
        answer = session.get(f"/redfish/v1/Systems/{NODE.xname}")
        assert answer.status_code == 307
        (member,) = session.get("/redfish/v1/Systems").json()["Members"]
        assert answer.headers["location"] == member["@odata.id"]
        system = session.get(member["@odata.id"]).json()
    assert (system["Name"], system["PowerState"]) == (NODE.xname, "Off")
    assert system["MemorySummary"]["TotalSystemMemoryGiB"] == 6


def test_the_network_interface_has_the_nodes_mac(bmc: Bmc) -> None:
    with client(bmc, follow_redirects=True) as session:
        nics = session.get(f"/redfish/v1/Systems/{NODE.xname}/EthernetInterfaces").json()["Members"]
        assert session.get(nics[0]["@odata.id"]).json()["MACAddress"] == NODE.mac


@pytest.mark.parametrize(("reset", "status"), [("Nmi", 501), ("PowerCycle", 501), ("ForceRestart", 400)])
def test_what_a_node_cannot_do_is_refused(bmc: Bmc, reset: str, status: int) -> None:
    target = f"/redfish/v1/Systems/{Board(NODE, POWER).uuid}/Actions/ComputerSystem.Reset"  # type: ignore[arg-type]
    with client(bmc) as session:
        assert session.post(target, json={"ResetType": reset}).status_code == status
    assert POWER.pressed == []


def test_a_node_boots_from_the_network_only(bmc: Bmc) -> None:
    with client(bmc) as session:
        (member,) = session.get("/redfish/v1/Systems").json()["Members"]
        wanted = {"Boot": {"BootSourceOverrideTarget": "Hdd"}}
        answer = session.patch(member["@odata.id"], json=wanted)
    assert answer.status_code == 400
    assert "no disk" in answer.text


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            SitewrightError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use"
        ):
            server.listen("127.0.0.1", port)


def test_a_certificate_that_is_missing_is_named(tmp_path: Path) -> None:
    listener = server.listen("127.0.0.1", 0)
    with listener, pytest.raises(SitewrightError, match=r"cannot use its certificate .*tls.crt"):
        server.https_server(None, listener, tmp_path / "tls.crt", tmp_path / "tls.key")
