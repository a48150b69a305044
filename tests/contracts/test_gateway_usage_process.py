"""What teams use, in a real PostgreSQL: two real LiteLLMs, in front of a stand-in that speaks vLLM's contract.

The database is killed, stopped, made read-only, and given another password while they serve.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from signal import SIGTERM

import httpx
import pytest

from modules.gateway.llm_gateway_usage import ANSWER_SECONDS, WRITE_SECONDS
from tests.contracts.database_program import PASSWORD, Database, database_there
from tests.contracts.limits_program import asking, key, leaving, refusal, replicas, stream, told_once
from tests.lab.gateway_program import STREAM_USED, USED, WORDS, Gateway, chat, wait_for

pytestmark = pytest.mark.timeout(600)
HOUR = {"budget_seconds": 3600}
PLENTY = {"token_budget": 10**9, **HOUR}
TEAMS = {
    "saves": {"token_budget": 1000, "budget_seconds": 8},
    "survives": {"token_budget": 1000, **HOUR},
    "killed": {"token_budget": 1000, **HOUR},
    **dict.fromkeys(("leaves", "counts", "impatient", "broken", "ends", "outage", "owes"), PLENTY),
}
OTHER = "free"  # a team without a budget
SETTLED = 4 * WRITE_SECONDS  # both replicas have written and read
BUDGET = (
    "select coalesce((select tokens::bigint from llm_gateway.budget where team = $1 and ends > now()), 0)"
)


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with database_there() as made:
        yield made


@pytest.fixture(scope="module")
def start(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Gateway]]:
    with replicas((*TEAMS, OTHER), TEAMS, tmp_path_factory, database.variables, database.address) as started:
        yield started


@pytest.fixture(scope="module")
def both(start: Callable[[], Gateway]) -> tuple[Gateway, Gateway]:
    return start(), start()


@pytest.fixture
def first(both: tuple[Gateway, Gateway]) -> Gateway:
    return both[0]


def used(database: Database, team: str) -> int:
    return int(database.ask(BUDGET, team)[0][0])


def counted(database: Database, team: str, tokens: int) -> None:
    """So many, and no more a moment later."""
    wait_for(lambda: used(database, team) >= tokens, f"{tokens} tokens of {team}", 15)
    time.sleep(2 * WRITE_SECONDS)
    assert used(database, team) == tokens


def test_a_client_that_leaves_has_used_what_was_produced(database, first):
    with leaving(first, key("leaves")):
        pass
    wait_for(lambda: used(database, "leaves") > 0, "the count of what was produced", 15)
    was = used(database, "leaves")
    print(f"\nleft after about 10 of {len(WORDS)} words: {was} tokens counted")
    assert 10 <= was < STREAM_USED
    assert first.chat("ok", key("leaves")).status_code == 200
    counted(database, "leaves", was + USED)


def test_an_answer_nobody_waits_for_is_not_counted(database, first):
    """It is no stream, the target is told to stop, and what it has produced until then nobody knows."""
    with pytest.raises(httpx.ReadTimeout):
        first.post("/v1/chat/completions", chat("late"), key("impatient"), timeout=1)
    assert first.chat("ok", key("impatient")).status_code == 200
    counted(database, "impatient", USED)


def test_a_stream_that_its_model_broke_off_is_not_counted(database, first):
    assert '"error"' in stream(first, "broken", "silent").text
    assert first.chat("ok", key("broken")).status_code == 200
    counted(database, "broken", USED)


@pytest.mark.parametrize("team", ["counts", OTHER])
def test_every_answer_is_counted_once_by_team_key_model_and_day(database, both, team):
    """Streams and others, of both replicas, some after a fallback; with a budget and without one."""
    for gateway in both:
        assert gateway.chat("ok", key(team)).status_code == 200
        assert gateway.chat("busy", key(team)).status_code == 200
        for options in ({}, {"include_usage": True}, {"include_usage": False}):
            assert stream(gateway, team, stream_options=options).status_code == 200
        for path, body in (
            ("/v1/embeddings", {"model": "ok", "input": "hello"}),
            ("/v1/completions", {"model": "ok", "prompt": "hello"}),
            ("/v1/completions", {"model": "ok", "prompt": "hello", "stream": True}),
        ):
            assert gateway.post(path, body, key(team)).status_code == 200
    tokens = 2 * (3 * USED + 4 * STREAM_USED + 1)
    lines = "select requests, prompt_tokens + completion_tokens from llm_gateway.usage where team = $1"
    total = f"select sum(requests)::int, sum(tokens)::int from ({lines}) as line(requests, tokens)"
    wait_for(lambda: database.ask(total, team)[0][0] == 16, "all answers", 15)
    time.sleep(SETTLED)
    assert database.ask(total, team) == [(16, tokens)]
    assert used(database, team) == (tokens if team in TEAMS else 0)
    found = database.ask("select distinct key, day from llm_gateway.usage where team = $1", team)
    today = datetime.now(UTC).date()
    assert {key for key, _ in found} == {team}, "the name of the entry with its key"
    assert {day for _, day in found} <= {today, today - timedelta(days=1)}


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_a_client_sees_the_usage_it_asked_for_and_no_other(first, options):
    answer = stream(first, "owes", **options)
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    shown = [event["usage"]["total_tokens"] for event in events if event.get("usage")]
    assert shown == ([STREAM_USED] if options else [])
    assert [event for event in events if not event["choices"]] == ([events[-1]] if options else [])


def test_a_budget_is_refused_when_it_is_used_up_and_begins_anew_by_itself(database, both):
    assert stream(both[0], "saves").status_code == 200
    wait_for(lambda: both[0].chat("ok", key("saves")).status_code == 429, "the replica that has answered", 5)
    wait_for(lambda: used(database, "saves") >= STREAM_USED, "the count", 15)
    time.sleep(SETTLED)
    answer = both[1].chat("ok", key("saves"))
    message = refusal(answer, "token_budget")
    print(f"\n{message}")
    assert " of 1,000 tokens used, the budget of 8 s" in message
    assert 1 <= int(answer.headers["retry-after"]) <= 8
    assert both[1].chat("ok", key(OTHER)).status_code == 200
    time.sleep(int(answer.headers["retry-after"]))
    assert both[1].chat("ok", key("saves")).status_code == 200
    counted(database, "saves", USED)


def test_a_database_that_loses_power_under_load_stops_nobody_loses_nothing_and_counts_nothing_twice(
    database, both
):
    assert stream(both[0], "survives").status_code == 200
    wait_for(lambda: used(database, "survives") >= STREAM_USED, "the count", 15)
    time.sleep(SETTLED)
    with asking(both, "outage") as answers:
        for _ in range(3):
            time.sleep(2)
            database.kill()
            before = len(answers)
            time.sleep(2)
            assert len(answers) > before, "requests go on while it is away"
            for gateway in both:
                refusal(gateway.chat("ok", key("survives")), "token_budget")
            database.start()
    assert set(answers) == {200}
    counted(database, "outage", len(answers) * USED)
    print(f"\n{len(answers)} answers through three power cuts, {used(database, 'outage')} tokens counted")
    for gateway in both:
        away = "what teams use is kept in memory, the database does not take it"
        told_once(gateway, away, "the database takes what teams use again")


def test_a_database_that_hangs_stops_nobody(database, both):
    was = used(database, "owes")
    database.hang()
    try:
        with httpx.Client(base_url=both[0].url, timeout=5) as impatient:
            headers = {"Authorization": f"Bearer {key('owes')}"}
            until = time.monotonic() + ANSWER_SECONDS + 2
            asked = 0
            while time.monotonic() < until:
                assert (
                    impatient.post("/v1/chat/completions", json=chat("ok"), headers=headers).status_code
                    == 200
                )
                asked += 1
    finally:
        database.go_on()
    counted(database, "owes", was + asked * USED)


def test_a_database_that_is_a_copy_now_is_not_written_to_and_what_is_owed_waits(database, first):
    """As one is after a failover: it answers, and takes nothing."""
    was = used(database, "owes")
    database.do("alter database llm_gateway set default_transaction_read_only = on")
    database.disconnect_others()
    before = len(first.log.read_text())
    assert first.chat("ok", key("owes")).status_code == 200
    wait_for(lambda: "does not take it" in first.log.read_text()[before:], "the line", 15)
    assert used(database, "owes") == was
    database.do("begin read write; alter database llm_gateway reset default_transaction_read_only; commit")
    counted(database, "owes", was + USED)


def test_a_wrong_password_is_in_the_log_and_neither_password_is(database, first):
    before, wrong = len(first.log.read_text()), "not-the-password-of-the-database"
    was = used(database, "owes")
    database.password_file.write_text(wrong)
    database.disconnect_others()
    assert first.chat("ok", key("owes")).status_code == 200
    wait_for(lambda: "InvalidPasswordError" in first.log.read_text()[before:], "the line", 15)
    print("\n" + first.log.read_text()[before:].strip())
    database.password_file.write_text(PASSWORD)
    counted(database, "owes", was + USED)
    assert PASSWORD not in first.log.read_text()
    assert wrong not in first.log.read_text()


def test_a_replica_starts_without_the_database_and_writes_what_it_ends_with(database, start):
    database.kill()
    gateway = start()
    assert gateway.chat("ok", key("ends")).status_code == 200
    assert "the database does not take it" in gateway.log.read_text()
    database.start()
    counted(database, "ends", USED)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(stream(gateway, "ends", "slow").text))
    thread.start()
    time.sleep(1)
    gateway.process.send_signal(SIGTERM)
    thread.join()
    gateway.process.wait(30)
    assert "[DONE]" in found[0]
    counted(database, "ends", USED + STREAM_USED)


def test_a_replica_that_ends_while_the_database_is_away_says_what_is_lost(database, start):
    gateway = start()
    database.kill()
    try:
        assert gateway.chat("ok", key("ends")).status_code == 200
        gateway.process.send_signal(SIGTERM)
        gateway.process.wait(30)
        assert f"{USED} tokens that teams have used are lost" in gateway.log.read_text()
    finally:
        database.start()


def test_what_was_used_holds_when_all_replicas_are_killed(database, both, start):
    assert stream(both[1], "killed").status_code == 200
    wait_for(lambda: used(database, "killed") >= STREAM_USED, "the count", 15)
    for gateway in both:
        gateway.process.kill()
    refusal(start().chat("ok", key("killed")), "token_budget")
