"""The gateway's store as a local process, replicas of a gateway beside it, and what a test asks of them."""

import contextlib
import itertools
import os
import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import httpx
import pytest

from modules.gateway.llm_gateway_spec import LlmGatewaySpec
from modules.gateway.llm_gateway_store import arguments
from modules.spec import MEBI
from tests.contracts.python_environment import environment_python
from tests.contracts.retrieval_program import Serving
from tests.lab.gateway_program import Gateway, StandIn, chat, free_port, wait_for

# Debian's redis-server is a link to this file of redis-tools, which starts nothing when it is installed.
PROGRAM = "/usr/bin/redis-check-rdb"
PASSWORD = "password-of-the-store-0123456789"


class Store:
    """The container as a local process: arguments and file of the manifests."""

    def __init__(self, place: Path) -> None:
        assert Path(PROGRAM).exists(), "install the package redis-tools (images/lab-packages.txt)"
        self.place, self.port = place, free_port()
        self.password_file, self.log = place / "password", place / "log"
        self.password_file.write_text(PASSWORD)
        (place / "redis.conf").write_text(f"requirepass {PASSWORD}\n")
        (place / "data").mkdir()
        self.start()

    def start(self) -> None:
        given = arguments(128 * MEBI)
        given[given.index("--port") + 1] = str(self.port)
        given[given.index("--dir") + 1] = str(self.place / "data")
        self.process = subprocess.Popen(
            ["redis-server", str(self.place / "redis.conf"), *given],
            executable=PROGRAM,
            stdout=self.log.open("a"),
            stderr=subprocess.STDOUT,
        )
        wait_for(lambda: self.ask("ping") == "PONG", "the store", 20)

    def ask(self, *command: str) -> str:
        """As the runbook does."""
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port), *command],
            env={**os.environ, "REDISCLI_AUTH": PASSWORD},
            capture_output=True,
            text=True,
            timeout=10,
        )
        return done.stdout.strip()

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(how)
        self.process.wait(20)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()

    @property
    def variables(self) -> dict[str, str]:
        """Of a gateway that counts here."""
        return {
            "GATEWAY_STORE": f"127.0.0.1:{self.port}",
            "GATEWAY_STORE_PASSWORD_FILE": str(self.password_file),
        }


def told_once(gateway: Gateway, away: str, back: str) -> None:
    """Its log says once for each cause that a store is away, and that it is back. away: what the cause follows."""
    text = gateway.log.read_text()
    causes = Counter(re.findall(rf"{re.escape(away)}: (\w+)", text))
    assert causes
    assert set(causes.values()) == {1}, "not once per try"
    assert back in text


def refusal(answer: httpx.Response, limit: str) -> str:
    """The message of a 429 that names this limit."""
    assert answer.status_code == 429, answer.text
    error = answer.json()["error"]
    assert error["param"] == limit
    assert error["type"] == ("insufficient_quota" if limit == "token_budget" else "rate_limit_exceeded")
    assert error["code"] == "429"
    assert answer.headers["retry-after"].isdigit()
    assert int(answer.headers["retry-after"]) >= 1
    assert f"is at its limit {limit}: " in error["message"]
    return str(error["message"])


def key(team: str) -> str:
    return f"sk-of-{team}-0123456789"


def stream(gateway: Gateway, team: str, model: str = "ok", **more) -> httpx.Response:
    return gateway.chat(model, key(team), stream=True, **more)


@contextlib.contextmanager
def leaving(gateway: Gateway, key: str) -> Iterator[None]:
    """A client that goes away after about 10 words of a stream."""
    body = {"model": "slow", "messages": [{"role": "user", "content": "Say hello."}], "stream": True}
    headers = {"Authorization": f"Bearer {key}"}
    with gateway.client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        for _ in itertools.islice(answer.iter_lines(), 21):
            pass
        yield


@contextlib.contextmanager
def asking(gateways: Iterable[Gateway], team: str) -> Iterator[list[int]]:
    """Each is asked by a client of its own, one request after the other. Gives the statuses, which grow meanwhile."""
    statuses: list[int] = []
    stop = threading.Event()

    def client(gateway: Gateway) -> None:
        headers = {"Authorization": f"Bearer {key(team)}"}
        with httpx.Client(base_url=gateway.url, timeout=5) as own:
            while not stop.is_set():
                statuses.append(
                    own.post("/v1/chat/completions", json=chat("ok"), headers=headers).status_code
                )

    threads = [threading.Thread(target=client, args=(gateway,)) for gateway in gateways]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def replicas(
    teams: Iterable[str],
    limits: dict[str, dict[str, int]],
    places: pytest.TempPathFactory,
    variables: dict[str, str],
    database: str | None = None,
) -> Iterator[Callable[[], Gateway]]:
    """Starts another replica of one gateway, in front of one stand-in for its models.

    variables: that are others here than in a pod; database: as `limited_spec` wants it.
    """
    models, made = Serving(StandIn().app), []
    spec = limited_spec(models.url, str(environment_python("litellm")), limits, database)

    def started() -> Gateway:
        gateway = Gateway(spec, places.mktemp("gateway"), variables)
        made.append(gateway)
        gateway.write_keys({team: key(team) for team in teams}, {})
        return gateway

    yield started
    for gateway in made:
        gateway.stop()
    models.stop()


def limited_spec(
    base: str, python: str, teams: dict[str, dict[str, int]], database: str | None = None
) -> LlmGatewaySpec:
    """database: address:port of PostgreSQL, where a team has a budget."""

    def model(name: str) -> dict:
        return {"name": name, "targets": [{"api_base": base}]}

    return LlmGatewaySpec.model_validate(
        {
            "image": "i",
            "python": python,
            "pool": "svc",
            "total_seconds": 30,
            "stall_seconds": 3,
            "database": {"addresses": [database]} if database else None,
            "teams": [{"name": name, **limits} for name, limits in teams.items()],
            "models": [
                model("ok"),
                model("slow"),
                model("late"),
                model("silent"),
                {**model("busy"), "fallbacks": ["ok"]},
            ],
        }
    )
