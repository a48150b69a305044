"""The provider as the engine meets it: a program, a port, and the Pulumi provider protocol.

Also what the provider relies on in the SDK, so that an upgrade which changes it is noticed here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc, status_pb2

from sitewright.provider.inputs import INPUTS
from sitewright.provider.processes import is_alive

URN = "urn:pulumi:lab::sitewright::sitewright:index:PlaybookRun::cluster"
SECRET = {rpc._special_sig_key: rpc._special_secret_sig}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    (root / "playbooks").mkdir()
    (root / "playbooks/good.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n"
        "    - ansible.builtin.set_stats: {data: {n: 5, echo: '{{ token }}'}, per_host: false}\n"
    )
    (root / "playbooks/bad.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n    - name: Break\n"
        "      ansible.builtin.fail: {msg: so}\n"
    )
    return root


def start(repository: Path) -> tuple[subprocess.Popen[str], int]:
    """The program, started as the engine does: engine address as argument, port as first line of its output."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "sitewright.provider", "127.0.0.1:1"],
        cwd=repository, env={"PATH": "/usr/bin:/bin", "HOME": str(repository)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.fixture(scope="module")
def provider(repository: Path) -> Iterator[provider_pb2_grpc.ResourceProviderStub]:
    process, port = start(repository)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield provider_pb2_grpc.ResourceProviderStub(channel)
    process.terminate()
    assert process.wait(20) == 0


def struct(**values: Any) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(values)
    return made


def test_it_names_its_version_and_schema(provider: provider_pb2_grpc.ResourceProviderStub) -> None:
    schema = json.loads(provider.GetSchema(provider_pb2.GetSchemaRequest()).schema)
    resource = schema["resources"]["sitewright:index:PlaybookRun"]
    assert set(resource["inputProperties"]) == set(INPUTS)
    assert provider.GetPluginInfo(struct_pb2.Struct()).version == schema["version"]


def test_it_takes_secrets_and_previews(provider: provider_pb2_grpc.ResourceProviderStub) -> None:
    answer = provider.Configure(provider_pb2.ConfigureRequest(acceptSecrets=True))
    assert answer.acceptSecrets and answer.supportsPreview


def test_bad_inputs_come_back_as_failures_with_paths(
    provider: provider_pb2_grpc.ResourceProviderStub,
) -> None:
    news = struct(playbook="playbooks/good.yml", timeout="soon", files=["gone"])
    failures = provider.Check(provider_pb2.CheckRequest(urn=URN, news=news)).failures
    assert [failure.property for failure in failures] == ["timeout"]


def test_unknown_and_secret_values_survive_the_check(
    provider: provider_pb2_grpc.ResourceProviderStub,
) -> None:
    variables = {"a": rpc.UNKNOWN, "b": {**SECRET, "value": "hush!"}}
    news = struct(playbook="playbooks/good.yml", variables=variables)
    inputs = provider.Check(provider_pb2.CheckRequest(urn=URN, news=news)).inputs
    assert dict(inputs["variables"]["b"]) == variables["b"]
    assert inputs["variables"]["a"] == rpc.UNKNOWN
    assert "playbooks/good.yml" in inputs["sources"]


def test_a_run_returns_its_results_and_keeps_secrets_marked(
    provider: provider_pb2_grpc.ResourceProviderStub, repository: Path
) -> None:
    properties = struct(playbook="playbooks/good.yml", variables={"token": {**SECRET, "value": "hush-hush"}})
    answer = provider.Create(provider_pb2.CreateRequest(urn=URN, properties=properties))
    assert answer.id == "localhost/cluster"
    assert answer.properties["results"]["n"] == 5
    assert dict(answer.properties["results"]["echo"]) == {**SECRET, "value": "hush-hush"}
    log = repository / answer.properties["log"]
    assert {path.name for path in log.iterdir()} == {"run.json", "log.txt", "events.jsonl"}
    assert not [path for path in log.iterdir() if "hush" in path.read_text()]


def test_a_failed_run_is_a_resource_that_must_be_finished(
    provider: provider_pb2_grpc.ResourceProviderStub,
) -> None:
    """The engine reads this detail, keeps the resource, and comes back to it in the next update."""
    with pytest.raises(grpc.RpcError) as error:
        provider.Create(provider_pb2.CreateRequest(urn=URN, properties=struct(playbook="playbooks/bad.yml")))
    message = error.value.details()
    assert message.startswith('playbooks/bad.yml: task "Break" failed on localhost: so\n')
    assert "Traceback" not in message and ".py" not in message
    details = dict(error.value.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(details)
    failed = provider_pb2.ErrorResourceInitFailed()
    assert status.details[0].Unpack(failed)
    assert failed.id == "localhost/cluster" and list(failed.reasons) == [message]
    assert failed.properties["status"] == "failed"


def test_a_wrong_question_is_answered_without_a_traceback(
    provider: provider_pb2_grpc.ResourceProviderStub,
) -> None:
    with pytest.raises(grpc.RpcError) as error:
        provider.Read(provider_pb2.ReadRequest(urn=URN, id="x"))
    assert error.value.details().startswith("cluster: a PlaybookRun cannot be imported")


def test_a_killed_provider_takes_its_play_along(repository: Path) -> None:
    started = repository / "started"
    (repository / "playbooks/long.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n"
        f"    - ansible.builtin.command: sh -c 'echo $$ > {started}; exec sleep 4720'\n"
    )
    process, port = start(repository)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = provider_pb2_grpc.ResourceProviderStub(channel)
        properties = struct(playbook="playbooks/long.yml")
        call = stub.Create.future(provider_pb2.CreateRequest(urn=URN, properties=properties))
        wait_for(lambda: started.exists() and started.read_text().strip())
        process.kill()
        process.wait()
        assert call.exception() is not None
    wait_for(lambda: not is_alive(int(started.read_text())))
    wait_for(lambda: not list(Path("/dev/shm").glob(f"sitewright-run-{process.pid}-*")))


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_cancel_is_answered(provider: provider_pb2_grpc.ResourceProviderStub) -> None:
    """Last in this module: afterwards the provider starts nothing more."""
    provider.Cancel(struct_pb2.Struct())
    with pytest.raises(grpc.RpcError, match="cancelled after 0 s"):
        provider.Create(provider_pb2.CreateRequest(urn=URN, properties=struct(playbook="playbooks/good.yml")))
