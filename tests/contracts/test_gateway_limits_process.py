"""Limits and budgets of teams: two real LiteLLMs and a real Redis, in front of a stand-in that speaks vLLM's contract.

What this cannot show: pods, Services, network policies, and vLLM itself.
"""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from signal import SIGCONT, SIGSTOP, SIGTERM

import httpx
import pytest

from modules.llm_gateway_counts import LEASE_SECONDS, PAUSE_SECONDS
from modules.llm_gateway_limits import HOLD_SECONDS
from tests.contracts.limits_program import PASSWORD, Store, limited_spec, refusal
from tests.contracts.python_environment import environment_python
from tests.contracts.retrieval_program import Serving
from tests.lab.gateway_program import STREAM_USED, USED, WORDS, Gateway, StandIn, chat, wait_for

pytestmark = pytest.mark.timeout(600)
TEAMS = {
    "wakes": {"requests_per_minute": 100_000},
    "asks": {"requests_per_minute": 5},
    "reads": {"tokens_per_minute": 900},
    "few": {"parallel_requests": 2},
    "leaves": {"parallel_requests": 1, "token_budget": 10**9, "budget_seconds": 3600},
    "saves": {"token_budget": 1000, "budget_seconds": 8},
    "counts": {
        "requests_per_minute": 100_000,
        "tokens_per_minute": 10**9,
        "parallel_requests": 100,
        "token_budget": 10**9,
        "budget_seconds": 3600,
    },
    "impatient": {"token_budget": 10**9, "budget_seconds": 3600},
    "clock": {"requests_per_minute": 5},
    "broken": {"token_budget": 10**9, "budget_seconds": 3600},
    "ends": {"token_budget": 10**9, "budget_seconds": 3600},
    "survives": {"token_budget": 1000, "budget_seconds": 3600},
    "outage": {"token_budget": 10**9, "budget_seconds": 3600, "parallel_requests": 50},
}
OTHER = "free"  # a team without a limit


def key(team: str) -> str:
    return f"sk-of-{team}-0123456789"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = Store(tmp_path_factory.mktemp("store"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def start(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Gateway]]:
    """Another replica of one gateway."""
    models, made = Serving(StandIn().app), []
    spec = limited_spec(models.url, str(environment_python("litellm")), TEAMS)

    def started() -> Gateway:
        gateway = Gateway(spec, tmp_path_factory.mktemp("gateway"), store.variables)
        made.append(gateway)
        gateway.write_keys({team: key(team) for team in (*TEAMS, OTHER)}, {})
        return gateway

    yield started
    for gateway in made:
        gateway.stop()
    models.stop()


@pytest.fixture(scope="module")
def both(start: Callable[[], Gateway]) -> tuple[Gateway, Gateway]:
    """They count: until a gateway has met its store, which a busy machine may delay, requests pass without limits."""
    made = start(), start()
    for gateway in made:
        wait_for(lambda one=gateway: counts(one), "a request that is counted", 30)
    return made


def counts(gateway: Gateway) -> bool:
    return "x-ratelimit-limit-requests" in gateway.chat("ok", key("wakes")).headers


@pytest.fixture
def first(both: tuple[Gateway, Gateway]) -> Gateway:
    return both[0]


def stream(gateway: Gateway, team: str, model: str = "ok", **more) -> httpx.Response:
    return gateway.chat(model, key(team), stream=True, **more)


def used(store: Store, team: str) -> int:
    return int(store.ask("get", f"team:{team}:budget") or 0)


def counted(store: Store, team: str, tokens: int) -> None:
    """So many, and no more a moment later: LiteLLM tells of an answer after it has left."""
    wait_for(lambda: used(store, team) >= tokens, f"{tokens} tokens of {team}", 15)
    time.sleep(1)
    assert used(store, team) == tokens


def test_requests_of_both_replicas_are_one_count_and_another_team_goes_on(both):
    left = []
    for place in range(5):
        answer = both[place % 2].chat("ok", key("asks"))
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-ratelimit-limit-requests"] == "5"
        left.append(int(answer.headers["x-ratelimit-remaining-requests"]))
    assert left == [4, 3, 2, 1, 0]
    for gateway in both:
        answer = gateway.chat("ok", key("asks"))
        message = refusal(answer, "requests_per_minute")
        assert "team asks" in message
        assert "5 of 5 requests per minute used" in message
        assert 1 <= int(answer.headers["retry-after"]) <= 12, "one grows back in a fifth of a minute"
        assert gateway.chat("ok", key(OTHER)).status_code == 200
    print(f"\n{message}")
    time.sleep(int(answer.headers["retry-after"]))
    assert both[0].chat("ok", key("asks")).status_code == 200, "it is free when it says so"


def test_a_clock_that_is_set_back_takes_nothing_from_a_team(store, first):
    store.ask("hset", "team:clock:requests", "left", "3", "at", str(int(time.time() + 3600) * 1000))
    answer = first.chat("ok", key("clock"))
    assert answer.headers["x-ratelimit-remaining-requests"] == "2"


def test_tokens_are_those_of_the_answers_and_the_team_waits_until_they_have_grown_back(both):
    answer = stream(both[0], "reads")
    assert (
        answer.headers["x-ratelimit-limit-tokens"] == answer.headers["x-ratelimit-remaining-tokens"] == "900"
    )
    found = until_refused(both[1], "reads")
    message = refusal(found, "tokens_per_minute")
    print(f"\n{message}")
    assert "of 900 tokens per minute used" in message
    assert both[1].chat("ok", key(OTHER)).status_code == 200
    time.sleep(int(found.headers["retry-after"]))
    assert both[1].chat("ok", key("reads")).status_code == 200, "it is free when it says so"


def until_refused(gateway: Gateway, team: str) -> httpx.Response:
    until = time.monotonic() + 20
    while (answer := gateway.chat("ok", key(team))).status_code == 200:
        assert time.monotonic() < until, "it is never refused"
        time.sleep(0.05)
    return answer


def test_requests_open_at_once_are_counted_over_both_replicas(both):
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda one=one: found.append(stream(one, "few", "slow").status_code))
        for one in both
    ]
    for thread in threads:
        thread.start()
    time.sleep(1)
    for gateway in both:
        assert "2 of 2 requests open at once" in refusal(gateway.chat("ok", key("few")), "parallel_requests")
    assert both[0].chat("ok", key(OTHER)).status_code == 200
    for thread in threads:
        thread.join()
    assert found == [200, 200]
    wait_for(lambda: both[1].chat("ok", key("few")).status_code == 200, "the end of both", 5)


def test_a_client_that_leaves_frees_its_place_and_what_was_produced_is_counted_once(store, first):
    with first.client.stream(
        "POST",
        "/v1/chat/completions",
        json={"model": "slow", "messages": [{"role": "user", "content": "Say hello."}], "stream": True},
        headers={"Authorization": f"Bearer {key('leaves')}"},
    ) as answer:
        for number, line in enumerate(answer.iter_lines()):
            assert line is not None
            if number > 20:
                break
    wait_for(lambda: used(store, "leaves") > 0, "the count of what was produced", 15)
    was = used(store, "leaves")
    print(f"\nleft after about 10 of {len(WORDS)} words: {was} tokens counted")
    assert 10 <= was < STREAM_USED
    wait_for(lambda: first.chat("ok", key("leaves")).status_code == 200, "its place", 10)
    counted(store, "leaves", was + USED)


def test_an_answer_nobody_waits_for_is_not_counted(store, first):
    """It is no stream, the target is told to stop, and what it has produced until then nobody knows."""
    with pytest.raises(httpx.ReadTimeout):
        first.post("/v1/chat/completions", chat("late"), key("impatient"), timeout=1)
    assert first.chat("ok", key("impatient")).status_code == 200
    counted(store, "impatient", USED)


def test_a_stream_that_its_model_broke_off_is_not_counted(store, first):
    assert '"error"' in stream(first, "broken", "silent").text
    assert first.chat("ok", key("broken")).status_code == 200
    counted(store, "broken", USED)


def test_every_answer_is_counted_once(store, both):
    """Streams and others, of both replicas, some after a fallback."""
    for gateway in both:
        assert gateway.chat("ok", key("counts")).status_code == 200
        assert gateway.chat("busy", key("counts")).status_code == 200
        for options in ({}, {"include_usage": True}, {"include_usage": False}):
            assert stream(gateway, "counts", stream_options=options).status_code == 200
        for path, body in (
            ("/v1/embeddings", {"model": "ok", "input": "hello"}),
            ("/v1/completions", {"model": "ok", "prompt": "hello"}),
            ("/v1/completions", {"model": "ok", "prompt": "hello", "stream": True}),
        ):
            assert gateway.post(path, body, key("counts")).status_code == 200
    counted(store, "counts", 2 * (3 * USED + 4 * STREAM_USED + 1))


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_a_client_sees_the_usage_it_asked_for_and_no_other(first, options):
    answer = stream(first, "counts", **options)
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    shown = [event["usage"]["total_tokens"] for event in events if event.get("usage")]
    assert shown == ([STREAM_USED] if options else [])
    assert [event for event in events if not event["choices"]] == ([events[-1]] if options else [])


def test_a_budget_is_refused_when_it_is_used_up_and_begins_anew_by_itself(store, both):
    assert stream(both[0], "saves").status_code == 200
    wait_for(lambda: used(store, "saves") >= STREAM_USED, "the count", 15)
    answer = both[1].chat("ok", key("saves"))
    message = refusal(answer, "token_budget")
    print(f"\n{message}")
    assert f"{STREAM_USED:,} of 1,000 tokens used" in message
    assert 1 <= int(answer.headers["retry-after"]) <= 8
    assert both[1].chat("ok", key(OTHER)).status_code == 200
    time.sleep(int(answer.headers["retry-after"]))
    assert both[1].chat("ok", key("saves")).status_code == 200
    counted(store, "saves", USED)


def test_a_store_that_is_killed_stops_nobody_and_limits_hold_again_when_it_is_back(store, both):
    assert stream(both[0], "survives").status_code == 200
    wait_for(lambda: used(store, "survives") >= STREAM_USED, "the count", 15)
    time.sleep(2)  # the store writes once a second
    refusal(both[0].chat("ok", key("survives")), "token_budget")
    answers: list[int] = []
    stop = threading.Event()

    def client(gateway: Gateway) -> None:
        with httpx.Client(base_url=gateway.url, timeout=5) as own:
            while not stop.is_set():
                body = {"model": "ok", "messages": [{"role": "user", "content": "x"}]}
                headers = {"Authorization": f"Bearer {key('outage')}"}
                answers.append(own.post("/v1/chat/completions", json=body, headers=headers).status_code)

    threads = [threading.Thread(target=client, args=(gateway,)) for gateway in both]
    for thread in threads:
        thread.start()
    time.sleep(2)
    store.kill()
    before = len(answers)
    time.sleep(2)
    during = len(answers)
    time.sleep(2)
    assert len(answers) > during, "requests go on while it is away"
    assert both[0].chat("ok", key("survives")).status_code == 200, "nobody is refused meanwhile"
    store.start()
    time.sleep(PAUSE_SECONDS + HOLD_SECONDS)
    stop.set()
    for thread in threads:
        thread.join()
    print(f"\n{dict(Counter(answers))}, {len(answers) - before} of them since the store was away")
    assert set(answers) == {200}
    refusal(both[0].chat("ok", key("survives")), "token_budget")
    # What was counted last before the kill is perhaps not written; what came later is sent when the store is back.
    wait_for(lambda: used(store, "outage") >= (len(answers) - before) * USED, "what is owed", 15)
    time.sleep(1)
    print(f"{used(store, 'outage')} tokens counted of {len(answers) * USED}")
    assert used(store, "outage") <= len(answers) * USED
    for gateway in both:
        text = gateway.log.read_text()
        said = re.findall(r"requests pass without limits, their store does not answer: (\w+)", text)
        assert said
        assert set(Counter(said).values()) == {1}, "not once per request"
        assert "the store of limits answers again" in text


def test_a_store_that_hangs_stops_nobody(store, first):
    store.process.send_signal(SIGSTOP)
    try:
        with httpx.Client(base_url=first.url, timeout=5) as impatient:
            headers = {"Authorization": f"Bearer {key('outage')}"}
            body = {"model": "ok", "messages": [{"role": "user", "content": "x"}]}
            for _ in range(5):
                assert impatient.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
    finally:
        store.process.send_signal(SIGCONT)
    wait_for(lambda: first.chat("ok", key("survives")).status_code == 429, "the limits", 15)


def test_a_wrong_password_is_in_the_log_and_the_password_is_not(store, first):
    before = len(first.log.read_text())
    store.password_file.write_text("not-the-password-of-the-store")
    store.ask("client", "kill", "type", "normal")
    wait_for(lambda: "password" in first.log.read_text()[before:], "the line", 15)
    assert first.chat("ok", key("survives")).status_code == 200
    print("\n" + first.log.read_text()[before:].strip())
    store.password_file.write_text(PASSWORD)
    wait_for(lambda: first.chat("ok", key("survives")).status_code == 429, "the limits", 15)
    assert PASSWORD not in first.log.read_text()
    assert "not-the-password-of-the-store" not in first.log.read_text()


def test_a_replica_starts_without_the_store_and_counts_what_it_ends_with(store, start):
    store.kill()
    gateway = start()
    assert gateway.chat("ok", key("ends")).status_code == 200
    assert "their store does not answer" in gateway.log.read_text()
    store.start()
    counted(store, "ends", USED)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(stream(gateway, "ends", "slow").text))
    thread.start()
    time.sleep(1)
    gateway.process.send_signal(SIGTERM)
    thread.join()
    gateway.process.wait(30)
    assert "[DONE]" in found[0]
    counted(store, "ends", USED + STREAM_USED)


def test_what_a_replica_held_when_it_was_killed_is_free_again(both):
    ended: list[Exception] = []

    def hold() -> None:
        try:
            stream(both[1], "few", "slow")
        except httpx.TransportError as error:
            ended.append(error)

    threads = [threading.Thread(target=hold) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    both[1].process.kill()
    for thread in threads:
        thread.join()
    assert len(ended) == 2, "both were open"
    refusal(both[0].chat("ok", key("few")), "parallel_requests")
    wait_for(lambda: both[0].chat("ok", key("few")).status_code == 200, "their places", LEASE_SECONDS + 10)
