"""The real LiteLLM, started from the rendered manifests, in front of a stand-in that speaks vLLM's contract.

It runs in the software environment of the site, as a plain process: no cluster takes part.
What this cannot show: pods, Services, network policies, and vLLM itself.
"""

import json
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from sitewright.site import Site
from tests.lab.gateway_program import (
    BLOCKED_KEY,
    KEY,
    SMALL_KEY,
    WORDS,
    Gateway,
    StandIn,
    chat,
    free_port,
    gateway_spec,
    wait_for,
)

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]
# fmt: off
OTHER_PATHS = [
    "/invocations", "/v1/load_lora_adapter", "/key/generate", "/config", "/config/update", "/model/new",
    "/v1/messages", "/ui", "/docs", "/", "/openapi.json", "/metrics", "/health", "/health/drain",
    "/v1/files", "/chat/completions", "/v1/chat/completions/", "//v1/chat/completions",
    "/vllm/invocations", "/sso/key/generate", "/v1/responses", "/user/new", "/public/model_hub",
]
# fmt: on


@pytest.fixture(scope="module")
def upstream() -> Iterator[tuple[StandIn, str]]:
    stand_in, port = StandIn(), free_port()
    server = uvicorn.Server(uvicorn.Config(stand_in.app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started, "the stand-in")
    yield stand_in, f"http://127.0.0.1:{port}/v1"
    server.force_exit = server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def python(deployed: None, site: Site) -> str:
    assert site.services.gateway is not None
    shared, name = Path(site.shared_filesystem.publish_dir), site.services.gateway.environment
    (found,) = shared.glob(f"environments/{name}-*/bin/python")
    return str(found)


@pytest.fixture(scope="module")
def gateway(
    upstream: tuple[StandIn, str], python: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    made = Gateway(gateway_spec(upstream[1], python), tmp_path_factory.mktemp("gateway"))
    yield made
    made.stop()


@pytest.mark.parametrize("key", [None, "", "x", "sk-nobody-has-this-key-01", "sk-1234", KEY + "x"])
def test_without_a_valid_key_nothing_is_answered(gateway: Gateway, key):
    answer = gateway.chat(key=key)
    assert answer.status_code == 401
    assert "no valid key" in answer.json()["error"]["message"]


def test_a_key_opens_the_three_paths_and_the_list(gateway: Gateway):
    answer = gateway.chat()
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "hello"
    completion = gateway.post("/v1/completions", {"model": "tiny", "prompt": "Say hello."})
    assert completion.json()["choices"][0]["text"] == "hello", completion.text
    embedding = gateway.post("/v1/embeddings", {"model": "tiny", "input": "hello"})
    assert embedding.json()["data"][0]["embedding"] == [0.5, 0.25], embedding.text


@pytest.mark.parametrize(("key", "some"), [(KEY, "tiny"), (SMALL_KEY, "canary")])
def test_a_team_sees_and_gets_its_models_only(gateway: Gateway, key, some):
    listed = gateway.client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).json()["data"]
    names = [one["id"] for one in listed]
    assert some in names
    assert (len(names) == 1) == (key == SMALL_KEY)
    assert gateway.chat("tiny", key).status_code == (200 if "tiny" in names else 404)


def test_an_unknown_model_is_refused_with_the_names_of_the_known(gateway: Gateway, upstream):
    upstream[0].asked.clear()
    answer = gateway.chat("gpt-4o")
    assert answer.status_code == 404
    assert "no model 'gpt-4o' for this key; there is tiny" in answer.json()["error"]["message"]
    assert not upstream[0].asked


def test_a_blocked_team_is_refused(gateway: Gateway):
    answer = gateway.chat(key=BLOCKED_KEY)
    assert answer.status_code == 403
    assert "blocked" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", OTHER_PATHS)
def test_no_other_path_reaches_litellm(gateway: Gateway, upstream, path):
    upstream[0].asked.clear()
    for method in ("GET", "POST"):
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = gateway.client.request(method, f"{gateway.url}{path}", json=chat("tiny"), headers=headers)
        assert answer.status_code == 404, answer.text
        assert "no such path" in answer.text, "this is the door's answer, not LiteLLM's"
    assert not upstream[0].asked


@pytest.mark.parametrize(
    "order",
    [
        {"fallbacks": ["canary"]},
        {"api_base": "http://127.0.0.1:9/v1"},
        {"mock_response": "made up"},
        {"user_config": {}},
        {"model_list": []},
        {"num_retries": 99},
        {"metadata": {"tags": ["x"]}},
    ],
    ids=lambda order: next(iter(order)),
)
def test_a_client_gives_litellm_no_orders_in_the_body(gateway: Gateway, upstream, order):
    upstream[0].asked.clear()
    answer = gateway.chat("tiny", **order)
    # LiteLLM itself refuses some of them before it asks for the key, with 401.
    assert answer.status_code in (400, 401)
    assert next(iter(order)) in answer.json()["error"]["message"]
    assert not upstream[0].asked


def test_a_client_gives_litellm_no_orders_in_headers_and_learns_no_addresses(gateway: Gateway, upstream):
    upstream[0].asked.clear()
    headers = {"x-litellm-timeout": "0.000001", "content-type": "application/x-www-form-urlencoded"}
    answer = gateway.post("/v1/chat/completions?model=gpt-4o", chat("tiny"), headers=headers)
    assert answer.status_code == 200, answer.text
    assert [name for name in answer.headers if name.startswith(("x-litellm", "llm_"))] == [
        "x-litellm-call-id"
    ]
    [(_, served, _, seen)] = upstream[0].asked
    assert served == "ok"
    assert KEY not in str(seen), "a team's key stays at the gateway"


def test_what_vllm_understands_reaches_it_unchanged(gateway: Gateway, upstream):
    wanted = {"top_k": 5, "min_p": 0.1, "temperature": 0.5, "max_tokens": 7, "seed": 1, "stop": ["."]}
    upstream[0].asked.clear()
    assert gateway.chat("tiny", **wanted).status_code == 200
    [(_, _, body, _)] = upstream[0].asked
    assert {name: body.get(name) for name in wanted} == wanted


def stream_words(answer: httpx.Response) -> tuple[list[str], bool]:
    events = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    choices = [json.loads(event)["choices"] for event in events if event != "[DONE]"]
    words = [one[0]["delta"].get("content") for one in choices if one]
    return [word for word in words if word], events[-1] == "[DONE]"


@pytest.mark.parametrize("model", ["tiny", "slow"])
def test_a_stream_passes_whole_also_when_it_lasts_longer_than_a_stream_may_be_silent(gateway: Gateway, model):
    assert stream_words(gateway.chat(model, stream=True)) == (WORDS, True)


def test_a_silent_stream_is_ended(gateway: Gateway):
    """Its first word has left, so nothing can be retried: the client sees an error or a stream without end mark."""
    started = time.monotonic()
    try:
        answer = gateway.chat("silent", stream=True)
        whole = "[DONE]" in answer.text and "error" not in answer.text
    except httpx.TransportError:
        whole = False
    assert not whole
    assert 1.5 < time.monotonic() - started < 15


def test_an_overloaded_target_is_made_up_for_by_the_other(gateway: Gateway, upstream):
    """20 models, so that the target is met fresh: after a few failures it rests."""
    upstream[0].asked.clear()
    answers = Counter(gateway.chat(f"retried-{place % 20}").status_code for place in range(60))
    asked = Counter(served for _, served, _, _ in upstream[0].asked)
    print(f"\none of two targets answers 503: {dict(answers)}, the targets were asked {dict(asked)}")
    assert asked["busy"] > 5, "it was asked"
    assert answers == {200: 60}


def test_a_model_whose_targets_are_all_overloaded_says_when_to_come_back(gateway: Gateway):
    answers = [gateway.chat("overloaded") for _ in range(5)]
    assert {answer.status_code for answer in answers} <= {429, 503}, [answer.text for answer in answers]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)


def test_another_model_answers_where_the_site_says_so(gateway: Gateway, upstream):
    upstream[0].asked.clear()
    assert gateway.chat("replaced").status_code == 200
    assert upstream[0].asked[-1][1] == "ok"


def test_a_canary_gets_about_its_share(gateway: Gateway, upstream):
    upstream[0].asked.clear()
    answers = [gateway.chat("canary") for _ in range(200)]
    assert {answer.status_code for answer in answers} == {200}
    asked = Counter(served for _, served, _, _ in upstream[0].asked)
    assert Counter(answer.headers["x-served-model"] for answer in answers) == asked
    print(f"\nweights 9 and 1: {dict(asked)}")
    assert 4 <= asked["ok-too"] <= 45  # of 200 with 0.1 each: outside once in 10,000 runs


def test_more_than_the_limit_are_told_to_come_back(gateway: Gateway):
    """12 may be open, 20 come at once; a probe is still answered."""
    answers: list[httpx.Response] = []
    threads = [
        threading.Thread(target=lambda: answers.append(gateway.chat("slow", stream=True))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.8)
    assert gateway.client.get("/health/readiness", timeout=5).status_code == 200
    for thread in threads:
        thread.join()
    assert Counter(answer.status_code for answer in answers) == {200: 12, 503: 8}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)


def test_keys_rotate_without_a_failed_request(gateway: Gateway):
    """The second key comes beside the first, clients change over, the first goes."""
    fresh, answers, stop = "sk-fresh-of-team-a-98765", [], threading.Event()
    using = {"key": KEY}

    def client() -> None:
        while not stop.is_set():
            answers.append(gateway.chat(key=using["key"]).status_code)

    threads = [threading.Thread(target=client) for _ in range(2)]
    for thread in threads:
        thread.start()
    others = {"small": SMALL_KEY}
    gateway.write_keys({"team-a": KEY, "team-a.next": fresh, **others}, {})
    wait_for(lambda: gateway.chat(key=fresh).status_code == 200, "the second key", 10)
    using["key"] = fresh
    time.sleep(0.5)
    gateway.write_keys({"team-a": fresh, **others}, {})
    wait_for(lambda: gateway.chat(key=KEY).status_code == 401, "the end of the first key", 10)
    stop.set()
    for thread in threads:
        thread.join()
    print(f"\nrotation: {len(answers)} requests, {dict(Counter(answers))}")
    assert set(answers) == {200}
    gateway.write_keys({"team-a": fresh, **others}, {"team-a": fresh})
    wait_for(lambda: gateway.chat(key=fresh).status_code == 403, "the block", 10)
    gateway.write_keys({"team-a": KEY, **others}, {})
    wait_for(lambda: gateway.chat().status_code == 200, "the first key again", 10)


def test_the_gateway_costs_little_time(gateway: Gateway, upstream):
    def p50_p95(url: str, model: str, headers: dict) -> tuple[float, float]:
        with httpx.Client(timeout=30, headers=headers) as client:
            taken = []
            for _ in range(220):
                started = time.perf_counter()
                assert client.post(f"{url}/chat/completions", json=chat(model)).status_code == 200
                taken.append((time.perf_counter() - started) * 1000)
        taken = sorted(taken[20:])
        return statistics.median(taken), taken[int(len(taken) * 0.95)]

    direct = p50_p95(upstream[1], "ok", {})
    through = p50_p95(f"{gateway.url}/v1", "tiny", {"Authorization": f"Bearer {KEY}"})
    print(f"\n200 requests, p50 and p95 in ms: direct {direct[0]:.1f} {direct[1]:.1f}, ", end="")
    print(f"gateway {through[0]:.1f} {through[1]:.1f}, overhead p50 {through[0] - direct[0]:.1f}")
    assert through[0] - direct[0] < 200


def test_open_streams_end_whole_after_sigterm(upstream, python: str, tmp_path: Path):
    gateway = Gateway(gateway_spec(upstream[1], python), tmp_path)
    try:
        found: list[tuple[list[str], bool]] = []
        threads = [
            threading.Thread(target=lambda: found.append(stream_words(gateway.chat("slow", stream=True))))
            for _ in range(8)
        ]
        upstream[0].asked.clear()
        for thread in threads:
            thread.start()
        wait_for(lambda: len(upstream[0].asked) == 8, "all streams at the stand-in")
        gateway.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        status = gateway.process.wait(30)
        assert found == [(WORDS, True)] * 8
        print(f"\n8 of 8 streams whole after SIGTERM; exit status {status}")
        text = gateway.log.read_text()
        assert not any(key in text for key in (KEY, SMALL_KEY, BLOCKED_KEY)), "keys stay out of the log"
    finally:
        gateway.stop()
