"""The lab's provisioner answers as the real services did when they were recorded (tests/data/contracts)."""

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.provisioner import boot_service, bss, cloud_init, smd
from lab.provisioner.serve import Servers, listen
from lab.provisioner.store import Store

RECORDS = Path(__file__).parent.parent / "data" / "contracts"
KEPT_HEADERS = ("content-type", "location", "bss-referral-token")
# The records name the services by these addresses, whatever port the test gives them.
BSS_URL, CLOUD_INIT_URL = "http://127.0.0.1:27778", "http://127.0.0.1:27777"
MINUTE = 66


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Provisioner:
    """The four services, freshly started over one SQLite file."""

    def __init__(self, file: Path) -> None:
        self.clock = Clock()
        self.store = Store(file)
        apps = {
            "smd": smd.build(self.store),
            "bss": bss.build(self.store, BSS_URL, CLOUD_INIT_URL),
            "cloud-init": cloud_init.build(self.store, CLOUD_INIT_URL, refresh=60, clock=self.clock),
            "boot-service": boot_service.build(self.store),
        }
        listeners = {name: listen(("127.0.0.1", 0)) for name in apps}
        self.urls = {
            name: f"http://127.0.0.1:{listener.getsockname()[1]}" for name, listener in listeners.items()
        }
        self.servers = Servers({listeners[name]: app for name, app in apps.items()})
        self.thread = threading.Thread(target=self.servers.run)

    def __enter__(self) -> "Provisioner":
        self.thread.start()
        deadline = time.monotonic() + 10
        while not self.servers.started and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.servers.started
        return self

    def __exit__(self, *_: object) -> None:
        self.servers.stop()
        self.thread.join()
        self.store.close()

    def send(self, client: httpx.Client, request: dict[str, Any]) -> dict[str, Any]:
        """The answer in the form of the records."""
        body = (
            request["raw"] if "raw" in request else json.dumps(request["body"]) if "body" in request else None
        )
        headers = {"content-type": "application/json"} if body is not None else {}
        answer = client.request(
            request["method"],
            self.urls[request["service"]] + request["path"],
            content=body,
            headers=headers | {name.lower(): value for name, value in request.get("headers", {}).items()},
        )
        text = without_volatile(answer.text)
        kept = {
            name: without_volatile(answer.headers[name]) for name in KEPT_HEADERS if name in answer.headers
        }
        try:
            return {"status": answer.status_code, "headers": kept, "body": json.loads(text)}
        except ValueError:
            return {"status": answer.status_code, "headers": kept, "body": text}


def without_volatile(text: str) -> str:
    """The replacements that were made when the records were written."""
    for pattern, replacement in (
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<time>"),
        (r'("last_epoch": ?)\d+', r"\g<1>0"),
        (r"\b(ts|retry)=\d{9,}", r"\1=<epoch>"),
        (r"\bi-[0-9a-f]{8}\b", "i-<id>"),
        (r"\b(node|bootconfiguration|bmc|nod|boo)-[0-9a-f]{6,}\b", "<uid>"),
    ):
        text = re.sub(pattern, replacement, text)
    return text


def comparable(body: Any) -> Any:
    """`body` without what may differ: the order of lists, and how an error's detail is worded."""
    if isinstance(body, list):
        return sorted((comparable(item) for item in body), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(body, dict):
        reworded = {key: "…" for key in ("detail", "error") if isinstance(body.get(key), str)}
        return {key: comparable(value) for key, value in body.items()} | reworded
    if isinstance(body, str) and body.startswith("{") and "\n" in body:
        # Two JSON documents one after the other, as SMD sends them for a BMC whose interface it knew.
        return [comparable(json.loads(line)) for line in body.splitlines()]
    return body


def exchanges(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RECORDS / name).read_text().splitlines()]


def differences(provisioner: Provisioner, name: str) -> list[str]:
    """Replay one record; one text per answer that a client could tell from the real one."""
    found = []
    first_cloud_init = True
    with httpx.Client(trust_env=False) as client:
        for number, exchange in enumerate(exchanges(name), start=1):
            request, want = exchange["request"], exchange["answer"]
            if name.startswith("01") and request["service"] == "cloud-init" and first_cloud_init:
                provisioner.clock.now += MINUTE  # as it was recorded, see tests/data/contracts/README.md
                first_cloud_init = False
            got = provisioner.send(client, request)
            for part in ("status", "headers", "body"):
                if comparable(got[part]) != comparable(want[part]):
                    call = f"{name}:{number} {request['service']} {request['method']} {request['path']}"
                    found.append(f"{call}: {part}\n  want {want[part]!r}\n  got  {got[part]!r}")
    return found


@pytest.fixture
def provisioner(tmp_path: Path) -> Iterator[Provisioner]:
    with Provisioner(tmp_path / "provisioner.db") as running:
        yield running


def test_all_188_exchanges_are_replayed() -> None:
    assert sum(len(exchanges(path.name)) for path in RECORDS.glob("*.jsonl")) == 188


def test_a_site_that_boots(provisioner: Provisioner) -> None:
    assert differences(provisioner, "01-site-that-boots.jsonl") == []


def test_every_call_and_then_a_minute_later(provisioner: Provisioner) -> None:
    found = differences(provisioner, "02-every-call.jsonl")
    provisioner.clock.now += MINUTE
    assert found + differences(provisioner, "03-after-a-minute.jsonl") == []


def test_a_comparison_that_could_not_fail_would_be_noticed(provisioner: Provisioner) -> None:
    """Against services that already hold other data, the same record must differ in many places."""
    differences(provisioner, "01-site-that-boots.jsonl")
    assert len(differences(provisioner, "02-every-call.jsonl")) > 10
