"""Queues of fine-tuning runs, with the real Kueue: what a researcher types, sees, and what happens to the runs."""

from __future__ import annotations

import json
import re
import subprocess

import kubernetes
import pytest
from click.testing import CliRunner

from modules.queues.batch_queues import FINE_TUNING, INFERENCE, KUEUE, queues
from sitewright.cli import main
from sitewright.tuning.template import TEMPLATE, TrainingTemplate, job
from tests.contracts.fake_hypervisor import until
from tests.contracts.queued_cluster import QueuedCluster
from tests.contracts.queuer import (
    ENDED_BY_SIGTERM,
    GROUP,
    NAMESPACE,
    QUEUES,
    VERSION,
    Queuer,
    active,
    container,
    objects,
)
from tests.contracts.scheduled_cluster import apply
from tools.locate import tool

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]


def test_what_is_rendered_is_taken_and_every_queue_becomes_active(queuer: Queuer) -> None:
    for plural, namespace, names in (
        ("clusterqueues", None, {INFERENCE, FINE_TUNING}),
        ("localqueues", NAMESPACE, {"climate", "materials"}),
    ):
        assert {found["metadata"]["name"] for found in objects(plural, namespace)} == names
        until(lambda p=plural, n=namespace: all(map(active, objects(p, n))), f"{plural} are active", 30)


def test_a_run_starts_in_its_turn_and_a_second_one_says_why_it_waits(queuer: Queuer) -> None:
    first = queuer.starts("first", "--queue", "climate")
    second = queuer.starts("second", "--queue", "materials")
    third = queuer.submits("--name", "third", "--queue", "climate")
    reason = queuer.waits_because(third, "queued", "insufficient unused quota for nvidia.com/gpu")
    assert "1 more needed" in reason
    assert queuer.pod(third) is None
    assert queuer.job(third).spec.suspend
    queuer.pod_ends(queuer.pod(first), 0)
    queuer.pod_runs(third)
    assert queuer.state(first) == "finished" or queuer.job(first).status.succeeded == 1
    assert queuer.state(second) == "running"


def test_a_run_of_higher_priority_makes_the_lowest_one_way_and_it_goes_on_afterwards(queuer: Queuer) -> None:
    low = queuer.starts("low", "--queue", "climate", "--priority", "scavenger")
    other = queuer.starts("other", "--queue", "materials")
    untouched = queuer.pod(other).metadata.uid
    urgent = queuer.submits("--name", "urgent", "--queue", "materials", "--priority", "urgent")

    victim = until(lambda: queuer.ending(low), "the pod of the lowest run is to end", 30)
    assert victim.metadata.deletion_grace_period_seconds == 600, "time to write a checkpoint"
    queuer.waits_because(low, "preempted", f"Preempted to accommodate {urgent} due to prioritization")
    assert queuer.job(low).spec.suspend
    queuer.waits_because(urgent, "admitted", "Insufficient nvidia.com/gpu")
    queuer.pod_ends(victim, ENDED_BY_SIGTERM)
    queuer.pod_runs(urgent)
    assert queuer.pod(low) is None, "it waits"
    assert queuer.pod(other).metadata.uid == untouched

    queuer.pod_ends(queuer.pod(urgent), 0)
    queuer.pod_runs(low)
    assert not queuer.job(low).spec.suspend
    assert not queuer.job(low).status.failed, "what made way has not failed"
    assert queuer.pod(other).metadata.uid == untouched


def test_a_run_whose_container_does_not_start_says_why(queuer: Queuer) -> None:
    run = queuer.submits("--queue", "climate")
    pod = until(lambda: queuer.placed(run), f"{run} has a pod on a node", 30)
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image i@sha256:1"}}
    queuer.says(pod, {"containerStatuses": [{**container("waiting"), "state": waiting}]})
    queuer.waits_because(run, "admitted", "ImagePullBackOff: Back-off pulling image i@sha256:1")


def test_a_run_that_waits_can_be_cancelled_and_goes_on_in_the_same_queue(queuer: Queuer) -> None:
    for name in ("one", "two"):
        queuer.starts(name, "--queue", "climate")
    waiting = queuer.submits("--name", "waiting", "--queue", "materials", "--priority", "scavenger")
    queuer.waits_because(waiting, "queued", "insufficient unused quota")
    queuer.cancels(waiting)
    queuer.types("tune", "resume", waiting)
    queuer.waits_because(waiting, "queued", "insufficient unused quota")
    labels = queuer.job(waiting).metadata.labels
    assert labels["kueue.x-k8s.io/queue-name"] == "materials"
    assert labels["kueue.x-k8s.io/priority-class"] == "scavenger"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--queue", "climat"], "no queue 'climat' in namespace 'fine-tuning'; there is climate, materials"),
        ([], "has several queues: climate, materials"),
        (
            ["--queue", "climate", "--priority", "now"],
            "no priority 'now' in this cluster; there is scavenger, urgent",
        ),
    ],
)
def test_a_queue_or_priority_that_is_not_there_is_named_with_those_that_are(
    queuer: Queuer, words: list[str], says: str
) -> None:
    assert says in queuer.submits(*words, status=1)
    assert queuer.jobs() == [] == queuer.runs()


def test_a_run_that_requests_what_its_queue_does_not_cover_is_refused_before_it_is_submitted(
    queuer: Queuer,
) -> None:
    """kueue#4848: Kueue takes it, and never admits it."""
    limits = {"type": "Container", "defaultRequest": {"ephemeral-storage": "50Gi"}}
    metadata = {"name": "scratch", "namespace": NAMESPACE}
    queuer.core.create_namespaced_limit_range(NAMESPACE, {"metadata": metadata, "spec": {"limits": [limits]}})
    try:
        said = until(lambda: _refused(queuer), "the API server knows the LimitRange", 10)
    finally:
        queuer.core.delete_namespaced_limit_range("scratch", NAMESPACE)
    assert "queue 'climate': its ClusterQueue 'fine-tuning' does not cover ephemeral-storage" in said
    assert "it covers cpu, memory, nvidia.com/gpu" in said
    assert queuer.jobs() == [] == queuer.runs()


def _refused(queuer: Queuer) -> str:
    """What is said; empty while it is not refused yet."""
    words = ("tune", "submit", "tiny", queuer.train, queuer.recipe, "--queue", "climate", "--dry-run")
    done = CliRunner().invoke(main, [str(word) for word in words])
    return done.output if done.exit_code == 1 else ""


def test_a_queue_of_others_that_covers_less_is_named_as_well(queuer: Queuer, queued: QueuedCluster) -> None:
    quota = [{"name": "cpu", "nominalQuota": "8"}]
    flavors = [{"name": "gpu", "resources": quota}]
    foreign = {
        "apiVersion": KUEUE,
        "kind": "ClusterQueue",
        "metadata": {"name": "foreign"},
        "spec": {
            "namespaceSelector": {},
            "resourceGroups": [{"coveredResources": ["cpu"], "flavors": flavors}],
        },
    }
    local = {
        "apiVersion": KUEUE,
        "kind": "LocalQueue",
        "metadata": {"name": "theirs", "namespace": NAMESPACE},
        "spec": {"clusterQueue": "foreign"},
    }
    apply(queued.kubeconfig, foreign, local)
    try:
        said = queuer.submits("--queue", "theirs", status=1)
    finally:
        api = kubernetes.client.CustomObjectsApi()
        api.delete_namespaced_custom_object(GROUP, VERSION, NAMESPACE, "localqueues", "theirs")
        api.delete_cluster_custom_object(GROUP, VERSION, "clusterqueues", "foreign")
    assert "does not cover memory, nvidia.com/gpu" in said
    assert queuer.jobs() == [] == queuer.runs()


def test_while_kueue_does_not_answer_nothing_is_submitted_and_nothing_stays_behind(
    queuer: Queuer, queued: QueuedCluster
) -> None:
    with queued.hanging():
        said = queuer.submits("--queue", "climate", status=1)
    assert 'failed calling webhook "mjob.kb.io"' in said
    assert queuer.jobs() == [] == queuer.runs()


def test_a_job_that_names_no_queue_takes_nothing_from_those_that_wait(queuer: Queuer) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    body = {"metadata": {"name": "by-hand"}, "spec": {"template": {"spec": pod}}}
    queuer.batch.create_namespaced_job(NAMESPACE, body)
    assert queuer.job("by-hand").spec.suspend


def test_a_run_of_the_time_before_there_were_queues_is_given_one(queuer: Queuer) -> None:
    run = queuer.submits("--queue", "climate")
    queuer.cancels(run)
    data = queuer.core.read_namespaced_config_map("fine-tuning", NAMESPACE).data
    template = TrainingTemplate.model_validate_json(data[TEMPLATE])
    queuer.batch.create_namespaced_job(NAMESPACE, job(template, run, "tiny", 3600))
    queuer.waits_because(run, "waiting", "cancel it, then resume it with --queue")
    queuer.cancels(run)
    queuer.types("tune", "resume", run, "--queue", "materials", "--priority", "urgent")
    queuer.pod_runs(run)
    assert queuer.job(run).metadata.labels["kueue.x-k8s.io/queue-name"] == "materials"


def test_jobs_of_other_namespaces_are_none_of_its_business(queuer: Queuer) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    body = {"metadata": {"name": "theirs"}, "spec": {"template": {"spec": pod}}}
    made = queuer.batch.create_namespaced_job("default", body)
    assert not made.spec.suspend
    queuer.batch.delete_namespaced_job("theirs", "default", propagation_policy="Background")


def test_queues_can_be_taken_away_in_the_order_in_which_pulumi_deletes(
    queuer: Queuer, queued: QueuedCluster
) -> None:
    """What is left would keep its kind, and a destroy, waiting for ever: Kueue puts finalizers on all of it."""
    queuer.starts("ended", "--queue", "climate")
    queuer.pod_ends(queuer.pod(queuer.jobs()[0]), 0)
    made = [manifest for manifest in queues(QUEUES) if manifest["kind"] != "WorkloadPriorityClass"]
    kinds = {
        "LocalQueue": "localqueues",
        "ClusterQueue": "clusterqueues",
        "ResourceFlavor": "resourceflavors",
    }
    try:
        for manifest in reversed(made):
            kind = f"{kinds[manifest['kind']]}.{GROUP}/{manifest['metadata']['name']}"
            command = [tool("kubectl"), f"--kubeconfig={queued.kubeconfig}", "delete", kind, "--timeout=20s"]
            place = manifest["metadata"].get("namespace", "default")
            done = subprocess.run([*command, f"--namespace={place}"], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    finally:
        apply(queued.kubeconfig, *made)


def test_kueue_was_refused_nothing_with_the_rights_it_has(queuer: Queuer, queued: QueuedCluster) -> None:
    queuer.starts("whatever", "--queue", "climate")
    refusals = [line for line in queued.log.read_text().splitlines() if "forbidden" in line.lower()]
    assert refusals == []


def test_the_configuration_is_the_one_kueue_understood(queued: QueuedCluster) -> None:
    loaded = next(line for line in queued.log.read_text().splitlines() if "loaded configuration" in line)
    said = json.loads(loaded)["config"]
    assert "  - batch/job\n" in said and "pod" not in re.findall(r"frameworks:((?:\n  - \S+)+)", said)[0]
    assert "backoffLimitCount: 5" in said and "manageJobsWithoutQueueName: true" in said
