"""`sitewright nodes drain` against the real Kubernetes API: what goes, what stays, and what an operator sees of it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from kubernetes import client, config

from sitewright.cli import main
from sitewright.kubernetes_api import NoAnswer
from sitewright.lifecycle import drain as drains
from sitewright.lifecycle import pods
from sitewright.lifecycle.pods import Pod
from tests.contracts.fake_hypervisor import api_server, until
from tests.contracts.pods_on_nodes import add_budget, add_pod, allow, clear, kubelet, names
from tests.contracts.scheduled_cluster import add_node

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]

FIRST, SECOND = "x1000c0s0b0n0", "x1000c0s0b1n0"


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with api_server(tmp_path_factory.mktemp("api")) as path:
        yield path


@pytest.fixture(autouse=True)
def cluster(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two Ready nodes, and drains that do not wait a second between two looks."""
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
    monkeypatch.setattr(drains, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(drains, "BUDGET_SECONDS", 0.05)
    config.load_kube_config(str(kubeconfig))
    for name in (FIRST, SECOND):
        add_node(name, {}, 0)
    yield
    clear()


def drain(*words: str, status: int = 0) -> str:
    """What is printed, both streams."""
    done = CliRunner().invoke(main, ["nodes", "drain", "lab", *words])
    assert done.exit_code == status, f"{done.output}\n{done.exception!r}"
    return done.output


def cordoned(name: str) -> bool:
    return bool(client.CoreV1Api().read_node(name).spec.unschedulable)


def test_pods_go_and_those_of_other_nodes_stay() -> None:
    add_pod("one", FIRST)
    add_pod("two", FIRST)
    add_pod("other", SECOND)
    assert f"{FIRST}: drained" in drain(FIRST)
    assert names() == {"other"}
    assert cordoned(FIRST) and not cordoned(SECOND)


def test_what_belongs_to_the_node_itself_stays() -> None:
    add_pod("goes", FIRST)
    add_pod("daemon", FIRST, owner="DaemonSet")
    add_pod("static", FIRST, owner="Node", annotations={"kubernetes.io/config.mirror": "abc"})
    add_pod("ended", FIRST, owner="Job", phase="Succeeded")
    drain(FIRST)
    assert names() == {"daemon", "static", "ended"}


def test_a_pod_gets_the_time_to_end_that_it_asks_for() -> None:
    add_pod("slow", FIRST, grace=600)
    with kubelet() as ended:
        assert "default/slow ends, within 600 s" in drain(FIRST)
    assert ended == ["slow 600"]


def test_a_budget_is_waited_for() -> None:
    add_pod("replica", FIRST, labels={"app": "web"})
    add_budget("web", {"app": "web"}, allowed=0)
    lines: list[str] = []
    thread = threading.Thread(target=drains.Drain([FIRST], 60, lines.append).run)
    thread.start()
    until(lambda: lines, "the budget does not allow it")
    assert names() == {"replica"} and cordoned(FIRST)
    allow("web", 1)
    thread.join()
    assert f"{FIRST}: default/replica stays for now: the cluster refused: Cannot evict pod" in lines[0]
    assert names() == set()


def test_a_budget_that_never_allows_it_ends_at_the_deadline_with_the_reason() -> None:
    add_pod("replica", FIRST, labels={"app": "web"})
    add_pod("free", SECOND)
    add_budget("web", {"app": "web"}, allowed=0)
    output = drain(f"{FIRST},{SECOND}", "--timeout", "0.3", status=1)
    assert f"not drained: {FIRST}\n" in output
    assert (
        f"{FIRST}: default/replica is left: the cluster refused: Cannot evict pod as it would violate"
        in output
    )
    assert f"sitewright nodes drain lab '{FIRST}' --undo" in output
    assert f"{SECOND}: drained" in output
    assert names() == {"replica"}
    assert cordoned(FIRST)


def test_two_budgets_of_one_pod_are_not_waited_for() -> None:
    add_pod("replica", FIRST, labels={"app": "web"})
    for budget in ("web", "again"):
        add_budget(budget, {"app": "web"}, allowed=1)
    assert "more than one PodDisruptionBudget" in drain(FIRST, status=1)


def test_a_pod_that_nobody_makes_again_is_refused_before_anything_changes() -> None:
    add_pod("lone", FIRST, owner="")
    add_pod("web", FIRST)
    assert f"nobody makes these pods again once they are gone: default/lone on {FIRST}" in drain(
        FIRST, status=1
    )
    assert names() == {"lone", "web"}
    assert not cordoned(FIRST)
    drain(FIRST, "--force")
    assert names() == set()


def test_a_dry_run_says_what_would_go_and_changes_nothing() -> None:
    add_pod("replica", FIRST, grace=600, labels={"app": "web"}, volumes=[{"name": "tmp", "emptyDir": {}}])
    add_pod("daemon", FIRST, owner="DaemonSet")
    add_pod("lone", FIRST, owner="")
    add_budget("web", {"app": "web"}, allowed=0)
    rows = {line.split()[1]: line for line in drain(FIRST, "--dry-run").splitlines()[1:]}
    assert (
        "go     has 600 s to end; loses its emptyDir; the cluster refused: Cannot evict"
        in rows["default/replica"]
    )
    assert "stay   runs on every node" in rows["default/daemon"]
    assert "needs --force" in rows["default/lone"]
    assert names() == {"replica", "daemon", "lone"}
    assert not cordoned(FIRST)


def test_a_drain_that_was_cut_short_goes_on_and_evicts_nothing_twice() -> None:
    pod = add_pod("slow", FIRST, grace=600)
    assert "it was told to end and has 600 s for that" in drain(FIRST, "--timeout", "0.2", status=1)
    told = client.CoreV1Api().read_namespaced_pod("slow", "default").metadata
    assert told.uid == pod.metadata.uid
    drain(FIRST, "--timeout", "0.2", status=1)
    again = client.CoreV1Api().read_namespaced_pod("slow", "default").metadata
    assert again.deletion_timestamp == told.deletion_timestamp
    with kubelet():
        drain(FIRST)


def test_a_dead_node_is_not_waited_for_after_the_time_to_end_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    add_pod("lost", FIRST, grace=1)
    silent = {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Test", "message": ""}]}
    client.CoreV1Api().patch_node_status(FIRST, {"status": silent})
    monkeypatch.setattr(drains, "DEAD_NODE_SECONDS", 0.0)
    assert "default/lost given up: its node does not say that it has ended" in drain(FIRST)
    assert names() == {"lost"}


def test_an_api_server_that_is_away_for_a_while_does_not_end_a_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    add_pod("web", FIRST)
    away = iter([NoAnswer("the cluster's API server does not answer")] * 2)

    def pods_of(node: str) -> list[Pod]:
        for error in away:
            raise error
        return pods.pods_of(node)

    monkeypatch.setattr(drains, "pods_of", pods_of)
    output = drain(FIRST, "--force")
    assert output.count("does not answer") == 1
    assert names() == set()


def test_undo_lets_pods_come_back() -> None:
    drain(FIRST)
    assert "takes pods again" in drain(FIRST, "--undo")
    assert not cordoned(FIRST)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("x9c0s0b0n0",), 1, "no node 'x9c0s0b0n0' in site lab"),
        ((FIRST, "--undo", "--dry-run"), 2, "--undo goes with neither"),
        ((FIRST, "--timeout", "0"), 2, "'--timeout'"),
    ],
)
def test_bad_arguments_are_refused(words: tuple[str, ...], status: int, said: str) -> None:
    assert said in drain(*words, status=status)


def test_a_node_of_another_cluster_is_refused_before_any_is_touched() -> None:
    client.CoreV1Api().delete_node(SECOND)
    assert f"{SECOND}: no such node in the cluster" in drain(f"{FIRST},{SECOND}", status=1)
    assert not cordoned(FIRST)
