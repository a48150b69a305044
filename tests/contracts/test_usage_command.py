"""`sitewright usage` against a real PostgreSQL, to which the gateway's own program wrote."""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from modules.gateway import llm_gateway_usage
from modules.gateway.llm_gateway_outage import Outage
from modules.gateway.llm_gateway_usage import Usage
from sitewright.cli import main
from tests.contracts.database_program import PASSWORD, Database, database_there

SITE = """
extends: {base}
name: {name}
services:
  models:
    - {{name: chat, cluster: svc, pool: gpu, model: chat, environment: vllm, image: vllm, memory: 16Gi, cpus: 4}}
  gateway:
    cluster: svc
    pool: gpu
    image: vllm
    teams:
      - {{name: weather, token_budget: 1000}}
      - {{name: climate, token_budget: 5000, budget_period: 12h}}
      - free
"""
BASE = Path(__file__).parents[1] / "data/site/base.yaml"
SECTION = """    database: {{addresses: ["{address}"], password_file: {password_file}, ca_file: {ca_file}}}
"""


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with database_there() as made:
        yield made


@pytest.fixture
def site(database: Database, tmp_path: Path) -> Path:
    values = {"password_file": database.password_file, "ca_file": database.ca_file}
    return site_file(tmp_path, SECTION.format(address=database.address, **values))


def site_file(directory: Path, section: str) -> Path:
    file = directory / "demo.yaml"
    file.write_text(SITE.format(base=BASE, name="demo") + section)
    return file


def usage(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["usage", *map(str, arguments)])


def shown(site: Path, *more: object) -> dict:
    done = usage("show", site, "--json", *more)
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def write(database: Database, monkeypatch: pytest.MonkeyPatch, *answers: tuple[str, str, int, int]) -> None:
    """As a replica does: team, model, tokens of question and answer of each."""
    monkeypatch.setenv("GATEWAY_DATABASE", database.address)
    monkeypatch.setenv("GATEWAY_DATABASE_NAME", database.section.name)
    monkeypatch.setenv("GATEWAY_DATABASE_USER", database.section.user)
    monkeypatch.setenv("GATEWAY_DATABASE_SECRET", str(database.secret))

    async def replica() -> None:
        kept = Usage(llm_gateway_usage.connect, {"weather": 3600, "climate": 43200}, Outage("away", "back"))
        for team, model, prompt, completion in answers:
            metadata = {"user_api_key_team_id": team, "user_api_key_alias": team}
            logged = {"metadata": metadata, "model_group": model}
            logged |= {"prompt_tokens": prompt, "completion_tokens": completion}
            await kept.answered({"standard_logging_object": logged}, None, None, None)
        await kept.settle()
        assert kept._unwritten()[0].lines == {}, "it is written"

    asyncio.run(replica())


def test_before_a_gateway_has_written_nothing_is_used(site):
    found = shown(site)
    assert [(one["team"], one["used"], one["of"], one["ends"]) for one in found["budgets"]] == [
        ("weather", 0, 1000, None),
        ("climate", 0, 5000, None),
    ]
    assert found["uses"] == []
    assert "Nothing was used from " in usage("show", site).output
    done = usage("set-used", site, "weather", 5)
    assert done.exit_code == 1
    assert "no period of a budget of team weather has begun" in done.output


def test_what_replicas_wrote_is_shown_by_team_and_model(database, site, monkeypatch):
    write(database, monkeypatch, ("weather", "chat", 100, 200), ("free", "chat", 1, 2))
    write(database, monkeypatch, ("weather", "chat", 10, 20), ("weather", "embeddings", 7, 0))
    found = shown(site)
    assert [(one["team"], one["used"]) for one in found["budgets"]] == [("weather", 337), ("climate", 0)]
    left = datetime.fromisoformat(found["budgets"][0]["ends"]) - datetime.now(UTC)
    assert timedelta(minutes=55) < left <= timedelta(hours=1)
    assert [tuple(one.values()) for one in found["uses"]] == [
        ("free", "chat", 1, 1, 2),
        ("weather", "chat", 2, 110, 220),
        ("weather", "embeddings", 1, 7, 0),
    ]
    assert [one["team"] for one in shown(site, "--team", "free")["uses"]] == ["free"]
    assert [(one["team"], one["key"]) for one in found["keys"]] == [("free", "free"), ("weather", "weather")]
    age = datetime.now(UTC) - datetime.fromisoformat(found["keys"][0]["last_used"])
    assert age < timedelta(minutes=1)
    text = usage("show", site).output
    assert re.search(r"weather +337 +1,000 +33\.7 +\d{4}-\d\d-\d\d \d\d:\d\d UTC, in \d+ min", text), text
    assert re.search(r"\n weather +\d{4}-\d\d-\d\d \d\d:\d\d UTC *\n", text), text
    assert re.search(r"climate +0 +5,000 +0\.0 +with the next answer", text), text


def test_days_that_were_asked_for_are_counted_and_no_others(database, site, monkeypatch):
    write(database, monkeypatch, ("free", "chat", 1, 2))
    database.do("update llm_gateway.usage set day = '2026-01-31' where team = 'free'")
    write(database, monkeypatch, ("free", "chat", 10, 20))
    assert [
        one["prompt_tokens"] for one in shown(site, "--team", "free", "--since", "2026-02-01")["uses"]
    ] == [10]
    january = shown(site, "--team", "free", "--since", "2026-01-01", "--until", "2026-01-31")
    assert [one["completion_tokens"] for one in january["uses"]] == [4]
    assert shown(site, "--since", "2025-01-01", "--until", "2025-12-31")["uses"] == []


def test_a_budget_is_given_back_and_taken_again(database, site, monkeypatch):
    write(database, monkeypatch, ("climate", "chat", 4000, 2000))
    done = usage("set-used", site, "climate", 0, "--dry-run")
    assert done.output == "climate: 6,000 → 0 of 5,000 tokens; nothing was changed\n"
    assert shown(site, "--team", "climate")["budgets"][0]["used"] == 6000
    ends = shown(site, "--team", "climate")["budgets"][0]["ends"]
    done = usage("set-used", site, "climate", 0)
    assert "climate: 6,000 → 0 of 5,000 tokens" in done.output
    assert f"To go back: sitewright usage set-used {site} climate 6000" in done.output
    assert shown(site, "--team", "climate")["budgets"] == [
        {"team": "climate", "used": 0, "of": 5000, "ends": ends}
    ]
    assert shown(site, "--team", "climate")["uses"][0]["prompt_tokens"] == 4000, "accounts stay"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("show", "{site}", "--since", "2026-02-01", "--until", "2026-01-01"), 1, "is after --until"),
        (("show", "{site}", "--since", "yesterday"), 2, "does not match the format"),
        (("set-used", "{site}", "free", "5"), 1, "team free has no budget"),
        (("set-used", "{site}", "weather", "-5"), 2, "No such option"),
        (("set-used", "{site}", "weather", "many"), 2, "is not a valid integer"),
    ],
)
def test_what_cannot_be_is_refused(site, arguments, status, message):
    done = usage(*(argument.format(site=site) for argument in arguments))
    assert done.exit_code == status
    assert message in done.output


def test_a_site_without_a_database_says_how_to_get_one(tmp_path):
    file = tmp_path / "demo.yaml"
    text = SITE.format(base=BASE, name="demo")
    file.write_text(re.sub(r"token_budget: \d+(, budget_period: 12h)?", "parallel_requests: 5", text))
    done = usage("show", file)
    assert done.exit_code == 1
    assert "Give `services.gateway.database` in the site file" in done.output


@pytest.mark.parametrize("fault", ["nobody listens", "wrong password", "another CA", "no file"])
def test_a_database_that_does_not_answer_is_named_and_no_password_is(database, tmp_path, fault):
    password, ca = tmp_path / "password", database.ca_file
    password.write_text("not-the-password" if fault == "wrong password" else PASSWORD)
    address = "127.0.0.1:9" if fault == "nobody listens" else database.address
    if fault == "another CA":
        ca = Path("/etc/ssl/certs/ca-certificates.crt")
    if fault == "no file":
        password.unlink()
    file = site_file(tmp_path, SECTION.format(address=address, password_file=password, ca_file=ca))
    done = usage("show", file)
    assert done.exit_code == 1, done.output
    assert (str(password) if fault == "no file" else f"llm_gateway at {address}: ") in done.output
    assert PASSWORD not in done.output and "not-the-password" not in done.output
    print(f"\n{done.output.strip()}")
