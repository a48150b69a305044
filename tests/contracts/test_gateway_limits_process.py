"""Limits of teams per minute and at once: two real LiteLLMs, a real Redis, and a stand-in that speaks vLLM's contract.

What this cannot show: pods, Services, network policies, and vLLM itself.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from signal import SIGCONT, SIGSTOP, SIGTERM

import httpx
import pytest

from modules.gateway.llm_gateway_counts import LEASE_SECONDS, PAUSE_SECONDS
from modules.gateway.llm_gateway_limits import HOLD_SECONDS
from tests.contracts.limits_program import (
    PASSWORD,
    Store,
    asking,
    key,
    leaving,
    refusal,
    replicas,
    stream,
    told_once,
)
from tests.lab.gateway_program import Gateway, wait_for

pytestmark = pytest.mark.timeout(600)
TEAMS = {
    "wakes": {"requests_per_minute": 100_000},
    "asks": {"requests_per_minute": 5},
    "reads": {"tokens_per_minute": 900},
    "few": {"parallel_requests": 2},
    "leaves": {"parallel_requests": 1},
    "clock": {"requests_per_minute": 5},
    "survives": {"requests_per_minute": 1},
    "outage": {"tokens_per_minute": 10**9, "parallel_requests": 50},
    "ends": {"tokens_per_minute": 10**9},
}
OTHER = "free"  # a team without a limit


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = Store(tmp_path_factory.mktemp("store"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def start(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Gateway]]:
    """Another replica of one gateway."""
    with replicas((*TEAMS, OTHER), TEAMS, tmp_path_factory, store.variables) as started:
        yield started


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


def charged(store: Store) -> int:
    """Answers of the last two minutes that it has counted."""
    return int(store.ask("eval", "return #redis.call('keys', 'charged:*')", "0"))


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


def test_a_client_that_leaves_frees_its_place(first):
    with leaving(first, key("leaves")):
        pass
    wait_for(lambda: first.chat("ok", key("leaves")).status_code == 200, "its place", 10)


def test_a_store_that_is_killed_stops_nobody_and_limits_hold_again_when_it_is_back(store, both):
    store.ask("flushall")
    assert both[0].chat("ok", key("survives")).status_code == 200
    time.sleep(2)  # the store writes once a second
    refusal(both[0].chat("ok", key("survives")), "requests_per_minute")
    with asking(both, "outage") as answers:
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
    print(f"\n{dict(Counter(answers))}, {len(answers) - before} of them since the store was away")
    assert set(answers) == {200}
    refusal(both[0].chat("ok", key("survives")), "requests_per_minute")
    # What was counted last before the kill is perhaps not written; what came later is sent when the store is back.
    wait_for(lambda: charged(store) >= len(answers) - before, "what is owed", 15)
    time.sleep(1)
    print(f"{charged(store)} answers counted of {len(answers)}")
    assert charged(store) <= len(answers)
    for gateway in both:
        away = "requests pass without limits, their store does not answer"
        told_once(gateway, away, "the store of limits answers again")


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
    time.sleep(PAUSE_SECONDS + HOLD_SECONDS)  # the others owe nothing any more
    store.ask("flushall")
    store.kill()
    gateway = start()
    assert gateway.chat("ok", key("ends")).status_code == 200
    assert "their store does not answer" in gateway.log.read_text()
    store.start()
    wait_for(lambda: charged(store) == 1, "the answer", 15)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(stream(gateway, "ends", "slow").text))
    thread.start()
    time.sleep(1)
    gateway.process.send_signal(SIGTERM)
    thread.join()
    gateway.process.wait(30)
    assert "[DONE]" in found[0]
    assert charged(store) == 2


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
