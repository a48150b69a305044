"""The gateway on the site: who gets in, what is there, and a key that changes."""

import json
import subprocess
import urllib.error
import urllib.request

import pytest

from tests.lab.conftest import GATEWAY, SITEWRIGHT, eventually, run

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

BODY = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "What is the highest mountain of the Alps?"}],
}


def ask(key: str | None, path: str = "/v1/chat/completions", **body: object) -> tuple[int, str]:
    return post(key, path, {**BODY, "temperature": 0, **body})


def post(key: str | None, path: str, body: dict) -> tuple[int, str]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(f"{GATEWAY}{path}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_team_gets_its_answer_and_a_stranger_does_not(key):
    status, answer = ask(key, max_tokens=64)
    assert status == 200
    assert "Mont Blanc" in json.loads(answer)["choices"][0]["message"]["content"]
    assert ask(None)[0] == 401
    assert ask("sk-of-nobody-0123456789")[0] == 401


def test_a_stream_comes_whole(key):
    status, answer = ask(key, stream=True, max_tokens=64)
    lines = [line for line in answer.splitlines() if line]
    assert status == 200
    assert lines[-1] == "data: [DONE]"
    assert '"finish_reason":"stop"' in answer.replace(" ", "")


@pytest.mark.parametrize(
    "path", ["/invocations", "/v1/load_lora_adapter", "/key/generate", "/config/update", "/metrics"]
)
def test_what_is_no_path_of_clients_is_not_there(key, path):
    assert ask(key, path)[0] == 404


def test_a_model_that_is_not_there_is_named(key):
    status, answer = ask(key, model="tniy")
    assert status == 404
    assert "tiny" in answer


def test_a_key_changes_without_an_outage(key, kubectl):
    """Both keys are good while clients change over; afterwards the second one is gone again."""
    second = "sk-of-the-lab-0123456789"
    _patch(kubectl, {"demo.next": second})
    try:
        statuses = []
        assert eventually(lambda: statuses.append(ask(key)[0]) or ask(second)[0] == 200, 120)
        assert set(statuses) == {200}
        assert eventually(lambda: {"demo", "demo.next"} <= set(last_used()), 30)
        assert last_used()["demo.next"] >= last_used()["demo"]
    finally:
        _patch(kubectl, {"demo.next": None})
    assert eventually(lambda: ask(second)[0] == 401, 120)
    assert ask(key)[0] == 200


def test_the_runbook_of_a_refused_team_shows_what_it_has_used_and_forgets_it(key, runbook):
    book = runbook("team-is-refused")
    assert ask(key, max_tokens=8)[0] == 200
    book.follow(1, 2)
    assert eventually(lambda: used() > 0, 30)
    before = used()
    assert "tiny" in book.follow(3)
    assert f"demo: {before:,} → 0 of" in book.follow(4)
    book.worked()
    assert used() < before
    assert ask(key, max_tokens=8)[0] == 200


def test_what_a_team_has_used_outlasts_every_pod_of_the_gateway_and_its_store(key, kubectl):
    assert ask(key, max_tokens=8)[0] == 200
    assert eventually(lambda: used() > 0, 30)
    before = used()
    for name in ("llm-gateway", "llm-gateway-store"):
        kubectl("delete", "pod", "-l", f"app.kubernetes.io/name={name}", "--wait=false")
    assert eventually(lambda: ask(key, max_tokens=8)[0] == 200, 300)
    assert eventually(lambda: used() > before, 60)


def used() -> int:
    """Tokens of the budget of the team `demo`."""
    [budget] = shown()["budgets"]
    return int(budget["used"])


def last_used() -> dict[str, str]:
    """When each key of the team was, by the name of its entry."""
    return {one["key"]: one["last_used"] for one in shown()["keys"]}


def shown() -> dict:
    return json.loads(run(SITEWRIGHT, "usage", "show", "lab", "--team", "demo", "--json").stdout)


def _patch(kubectl, data: dict[str, str | None]) -> subprocess.CompletedProcess[str]:
    field = "data" if None in data.values() else "stringData"
    return kubectl("patch", "secret", "llm-gateway-keys-active", "-p", json.dumps({field: data}))
