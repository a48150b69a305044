"""The provider's answers to the engine, without engine and without Ansible: a run is what the test says it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pulumi.provider.experimental import provider as protocol
from pulumi.provider.experimental.property_value import PropertyValue

from sitewright.errors import SitewrightError
from sitewright.provider.failures import NotDone, RunFailed
from sitewright.provider.playbook_runs import PlaybookRuns
from sitewright.provider.provider import SitewrightProvider
from sitewright.provider.run import Job, RunResult
from sitewright.provider.values import UNKNOWN, is_unknown, plain, to_property

URN = "urn:pulumi:lab::sitewright::sitewright:index:PlaybookRun::cluster"
PLAYBOOK = "playbooks/p.yml"

Outcome = Callable[[Job], RunResult]


class Told(PlaybookRuns):
    """Remembers the jobs and answers them as the test says."""

    def __init__(self, repository: Path) -> None:
        super().__init__(repository)
        self.jobs: list[Job] = []
        self.outcome: Outcome = lambda job: RunResult({}, False, "log")

    async def _run(self, job: Job) -> RunResult:
        self.jobs.append(job)
        return self.outcome(job)


def fail(status: str = "failed") -> Outcome:
    def outcome(job: Job) -> RunResult:
        raise RunFailed("it failed", "see the log", status, "the-log", "the-run")

    return outcome


@pytest.fixture
def provider(tmp_path: Path) -> Told:
    (tmp_path / "playbooks/inventory").mkdir(parents=True)
    (tmp_path / "playbooks/inventory/site.py").touch()
    for name in ("p", "verify", "undo"):
        (tmp_path / f"playbooks/{name}.yml").write_text("- hosts: localhost\n")
    return Told(tmp_path)


def inputs(**values: Any) -> dict[str, PropertyValue]:
    return {
        "playbook": PropertyValue(PLAYBOOK),
        **{name: as_property(value) for name, value in values.items()},
    }


def as_property(value: Any) -> PropertyValue:
    return value if isinstance(value, PropertyValue) else to_property(value)


def check(provider: Told, **values: Any) -> protocol.CheckResponse:
    return asyncio.run(provider.check(protocol.CheckRequest(URN, {}, inputs(**values), b"")))


def create(
    provider: Told, preview: bool = False, engine_timeout: float = 0, **values: Any
) -> dict[str, PropertyValue]:
    request = protocol.CreateRequest(URN, inputs(**values), engine_timeout, preview)
    return asyncio.run(provider.create(request)).properties


def update(
    provider: Told, old: dict[str, PropertyValue], preview: bool = False, **values: Any
) -> dict[str, Any]:
    request = protocol.UpdateRequest(URN, "localhost/cluster", old, inputs(**values), 0, [], preview)
    return asyncio.run(provider.update(request)).properties


def read(provider: Told, state: dict[str, PropertyValue]) -> dict[str, PropertyValue]:
    return asyncio.run(provider.read(protocol.ReadRequest(URN, "localhost/cluster", state, {}))).properties


def test_check_adds_the_digest_of_every_file(provider: Told, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("a")
    answer = check(provider, files=["recipe.yaml"])
    assert not answer.failures and answer.inputs is not None
    assert set(plain(answer.inputs["sources"])) == {PLAYBOOK, "recipe.yaml"}
    assert len(plain(answer.inputs["digest"])) == 16


def test_check_does_not_trust_a_digest_from_outside(provider: Told) -> None:
    answer = check(provider, digest="mine", sources={"x": "y"})
    assert answer.inputs is not None and set(plain(answer.inputs["sources"])) == {PLAYBOOK}


@pytest.mark.parametrize(
    ("values", "path", "reason"),
    [
        ({"playbook": "playbooks/none.yml"}, "playbook", "playbooks/none.yml: no such playbook"),
        ({"verify": "playbooks/none.yml"}, "verify", "no such playbook"),
        ({"undo": "playbooks/none.yml"}, "undo", "no such playbook"),
        ({"files": ["gone/*"]}, "files[0]", "'gone/*' matches no file"),
    ],
)
def test_check_names_what_is_not_there(
    provider: Told, values: dict[str, Any], path: str, reason: str
) -> None:
    (failure,) = check(provider, **values).failures or []
    assert failure.property == path and reason in failure.reason


def test_check_refuses_an_environment_without_inventory(provider: Told, tmp_path: Path) -> None:
    (tmp_path / "playbooks/inventory/site.py").unlink()
    (failure,) = check(provider, environment="lab").failures or []
    assert failure.property == "environment" and "playbooks/inventory/site.py" in failure.reason


def test_check_leaves_the_digest_open_while_the_playbook_is_unknown(provider: Told) -> None:
    answer = check(provider, playbook=UNKNOWN)
    assert not answer.failures and answer.inputs is not None and is_unknown(answer.inputs["sources"])


def test_preview_of_a_create_runs_nothing_and_knows_no_results(provider: Told) -> None:
    properties = create(provider, preview=True, variables=PropertyValue({"a": UNKNOWN}))
    assert all(is_unknown(properties[name]) for name in ("results", "changed", "log"))
    assert provider.jobs == []


def test_create_hands_variables_and_secrets_to_the_run(provider: Told) -> None:
    secret = PropertyValue("hush!", is_secret=True)
    variables = PropertyValue({"token": secret, "n": PropertyValue(3.0)})
    create(provider, variables=variables, environment="lab", limit="n[1-2]", secretResults=["kubeconfig"])
    (job,) = provider.jobs
    assert job.variables == {"token": "hush!", "n": 3}
    assert job.secrets == {"hush!"}
    assert (job.name, job.action, job.environment, job.limit) == ("cluster", "run", "lab", "n1,n2")
    assert job.secret_results == ("kubeconfig",)


@pytest.mark.parametrize(
    ("own", "engine", "expected"), [("1m", 0, 60), ("1m", 20, 20), (None, 20, 20), (None, 0, None)]
)
def test_the_shorter_timeout_counts(
    provider: Told, own: str | None, engine: float, expected: float | None
) -> None:
    create(provider, engine_timeout=engine, **({"timeout": own} if own else {}))
    assert provider.jobs[0].timeout == expected


def test_secret_results_are_secrets_and_so_is_what_contains_a_secret(provider: Told) -> None:
    provider.outcome = lambda job: RunResult(
        {"kubeconfig": "k", "endpoint": "e", "url": "http://hush!@h"}, True, "log"
    )
    token = PropertyValue("hush!", is_secret=True)
    properties = create(provider, variables=PropertyValue({"token": token}), secretResults=["kubeconfig"])
    results = properties["results"].value
    assert {name: value.is_secret for name, value in results.items()} == {  # type: ignore[union-attr]
        "kubeconfig": True, "endpoint": False, "url": True,
    }  # fmt: skip
    assert plain(properties["changed"]) is True and plain(properties["log"]) == "log"


@pytest.mark.parametrize("status", ["failed", "unreachable", "timed out", "cancelled"])
def test_a_failed_create_leaves_a_resource_that_must_be_finished(provider: Told, status: str) -> None:
    provider.outcome = fail(status)
    with pytest.raises(NotDone, match="it failed") as error:
        create(provider, environment="lab", undo="playbooks/undo.yml")
    assert error.value.identity == "lab/cluster"
    assert plain(error.value.properties["status"]) == status
    assert plain(error.value.properties["undo"]) == "playbooks/undo.yml"


def test_a_failed_update_keeps_the_old_inputs_and_results(provider: Told) -> None:
    old = create(provider, variables={"v": "old"})
    provider.outcome = fail()
    with pytest.raises(NotDone) as error:
        update(provider, old, variables={"v": "new"})
    kept = error.value.properties
    assert plain(kept["variables"]) == {"v": "old"} and plain(kept["status"]) == "failed"
    assert kept["results"] == old["results"]


def test_an_update_of_the_timeout_alone_runs_nothing(provider: Told) -> None:
    provider.outcome = lambda job: RunResult({"a": "1"}, True, "first-log")
    old = create(provider)
    new = update(provider, old, timeout="5m", secretResults=["a"])
    assert len(provider.jobs) == 1
    assert plain(new["timeout"]) == "5m" and plain(new["log"]) == "first-log"
    assert new["results"].value["a"].is_secret


def test_an_update_is_told_the_variables_before_and_hides_their_secrets_too(provider: Told) -> None:
    old = create(provider, variables=PropertyValue({"token": PropertyValue("old secret", is_secret=True)}))
    update(provider, old, variables=PropertyValue({"token": PropertyValue("new secret", is_secret=True)}))
    assert [job.previous for job in provider.jobs] == [{}, {"token": "old secret"}]
    assert provider.jobs[1].secrets == {"old secret", "new secret"}


def test_preview_of_an_update_keeps_the_stable_results_only(provider: Told) -> None:
    provider.outcome = lambda job: RunResult({"kubeconfig": "k", "digest": "d"}, True, "log")
    old = create(provider)
    some = update(provider, old, preview=True, triggers="now", stableResults=["kubeconfig"])["results"].value
    assert plain(some["kubeconfig"]) == "k" and is_unknown(some["digest"])
    every = update(provider, old, preview=True, triggers="now", stableResults=["*"])["results"]
    assert plain(every) == {"kubeconfig": "k", "digest": "d"}
    assert is_unknown(update(provider, old, preview=True, triggers="now")["results"])
    assert len(provider.jobs) == 1


def test_delete_runs_undo_with_the_variables_of_the_state(provider: Told) -> None:
    state = create(provider, undo="playbooks/undo.yml", variables={"v": "old"})
    asyncio.run(provider.delete(protocol.DeleteRequest(URN, "id", state, 0)))
    assert [(job.action, job.playbook) for job in provider.jobs] == [
        ("run", PLAYBOOK),
        ("undo", "playbooks/undo.yml"),
    ]
    assert provider.jobs[1].variables == {"v": "old"}


def test_delete_without_undo_runs_nothing(provider: Told) -> None:
    state = create(provider)
    asyncio.run(provider.delete(protocol.DeleteRequest(URN, "id", state, 0)))
    assert len(provider.jobs) == 1


def test_delete_says_when_the_undo_playbook_is_gone(provider: Told, tmp_path: Path) -> None:
    state = create(provider, undo="playbooks/undo.yml")
    (tmp_path / "playbooks/undo.yml").unlink()
    with pytest.raises(SitewrightError, match=r"(?s)cannot be undone.*pulumi state delete 'urn:pulumi:lab"):
        asyncio.run(provider.delete(protocol.DeleteRequest(URN, "id", state, 0)))


def test_read_without_verify_leaves_the_state_as_it_is(provider: Told) -> None:
    state = create(provider)
    assert read(provider, state) == state


@pytest.mark.parametrize(
    ("outcome", "drift"),
    [
        (lambda job: RunResult({}, False, "log"), None),
        (lambda job: RunResult({"drift": []}, False, "log"), None),
        (lambda job: RunResult({"drift": "a file is gone"}, False, "log"), "a file is gone"),
        (lambda job: RunResult({"drift": ["a", "b"]}, False, "log"), "a, b"),
        (lambda job: RunResult({}, True, "log", ("Write it (n1)",)), "Write it (n1)"),
        (lambda job: RunResult({}, True, "log", tuple("abcdefg")), "a, b, c, d, e and 2 more"),
        (lambda job: RunResult({"drift": "token hush!"}, False, "log"), "token [secret]"),
        (fail("failed"), "it failed"),
        (fail("unreachable"), "it failed"),
    ],
)
def test_read_finds_drift_by_the_verify_playbook(provider: Told, outcome: Outcome, drift: str | None) -> None:
    token = PropertyValue({"token": PropertyValue("hush!", is_secret=True)})
    state = create(provider, verify="playbooks/verify.yml", variables=token)
    provider.outcome = outcome
    found = read(provider, state)
    assert plain(found["status"]) == ("drifted" if drift else "ok")
    assert plain(found["drift"]) == drift
    provider.outcome = lambda job: RunResult({}, False, "log")
    assert plain(read(provider, found)["status"]) == "ok"  # it may also go away by itself


@pytest.mark.parametrize("status", ["cancelled", "timed out"])
def test_a_verification_that_was_stopped_says_nothing_about_drift(provider: Told, status: str) -> None:
    state = create(provider, verify="playbooks/verify.yml")
    provider.outcome = fail(status)
    with pytest.raises(RunFailed):
        read(provider, state)


def test_a_run_that_failed_is_not_verified(provider: Told) -> None:
    state = {**create(provider, verify="playbooks/verify.yml"), "status": PropertyValue("failed")}
    assert read(provider, state) == state
    assert len(provider.jobs) == 1


def test_an_import_is_refused(provider: Told) -> None:
    with pytest.raises(SitewrightError, match="cannot be imported"):
        read(provider, {})


def test_another_resource_type_is_refused(tmp_path: Path) -> None:
    request = protocol.CheckRequest(URN.replace("PlaybookRun", "PlaybookRan"), {}, inputs(), b"")
    with pytest.raises(SitewrightError, match="this provider has sitewright:index:PlaybookRun, sitewright:"):
        asyncio.run(SitewrightProvider(tmp_path).check(request))


def test_after_cancel_no_run_starts(tmp_path: Path) -> None:
    (tmp_path / "playbooks").mkdir()
    (tmp_path / PLAYBOOK).write_text("- hosts: localhost\n  tasks: [{debug: }]\n")
    provider = SitewrightProvider(tmp_path)

    async def cancel_first() -> None:
        await provider.cancel()
        await provider.create(protocol.CreateRequest(URN, inputs(), 0, False))

    with pytest.raises(NotDone, match="cancelled after 0 s before its first task"):
        asyncio.run(cancel_first())
