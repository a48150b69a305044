"""What the queues of a cluster (Kueue) say: where a run may wait, whether it can ever start, and why it waits."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import kubernetes

from sitewright.errors import SitewrightError
from sitewright.kubernetes_api import Missing, call
from sitewright.tuning.template import QUEUE_LABEL, Turn

GROUP, VERSION = "kueue.x-k8s.io", "v1beta2"


@dataclass(frozen=True)
class Wait:
    """state: queued, preempted or admitted; reason: what Kueue says of a run that is not admitted."""

    state: str
    reason: str = ""


class Queues:
    """Of one namespace. Every method raises SitewrightError when the API server does not answer or refuses."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._api = kubernetes.client.CustomObjectsApi()

    def turn(self, queue: str | None, priority: str | None) -> Turn:
        """Where a run waits. queue: None takes the only one; priority: None is that of most runs, 0.

        Raises: SitewrightError with those that exist where one is not there, and where several could be meant.
        """
        queues = self._names("localqueues", self._namespace)
        if queue is None and len(queues) > 1:
            raise SitewrightError(
                f"namespace {self._namespace!r} has several queues: {', '.join(queues)}",
                "Name one with --queue.",
            )
        name = queue or next(iter(queues), "")
        if name:
            _known("queue", name, queues, f"in namespace {self._namespace!r}")
        if priority:
            _known("priority", priority, self._names("workloadpriorityclasses"), "in this cluster")
        return Turn(name, priority or "")

    def refuse_uncovered(self, turn: Turn, requests: Iterable[str]) -> None:
        """A run that requests what its queue does not count would wait for ever (kueue#4848).

        requests: names of the resources. Raises: SitewrightError with those that are not covered.
        """
        if not turn.queue:
            return
        local = self._get("localqueues", turn.queue, self._namespace)
        shared = local["spec"]["clusterQueue"]
        try:
            groups = self._get("clusterqueues", shared)["spec"].get("resourceGroups", [])
        except Missing:
            raise SitewrightError(
                f"queue {turn.queue!r} leads to the ClusterQueue {shared!r}, which is not there",
                "Name another --queue, or have the cluster's operator make it.",
            ) from None
        covered = [name for group in groups for name in group.get("coveredResources", [])]
        missing = sorted(set(requests) - set(covered))
        if missing:
            raise SitewrightError(
                f"queue {turn.queue!r}: its ClusterQueue {shared!r} does not cover {', '.join(missing)}, which the "
                f"run requests; it covers {', '.join(covered) or 'nothing'}. The run would never start",
                f"Name another --queue, or have {', '.join(missing)} added to coveredResources of {shared!r}; "
                "a LimitRange of the namespace may be what adds the request.",
            )

    def waits(self, runs: Mapping[str, str]) -> dict[str, Wait]:
        """By the uid of the Job, of those that Kueue knows. runs: uid of a Job → its name, to say who goes first."""
        try:
            found = self._list("workloads", self._namespace)
        except Missing:
            return {}
        waits = {}
        for workload in found:
            wait = wait_of(workload, runs)
            for owner in workload["metadata"].get("ownerReferences", ()):
                waits[owner["uid"]] = wait
        return waits

    def _names(self, plural: str, namespace: str | None = None) -> list[str]:
        """Sorted; none where the cluster has no Kueue."""
        try:
            return sorted(found["metadata"]["name"] for found in self._list(plural, namespace))
        except Missing:
            return []

    def _list(self, plural: str, namespace: str | None = None) -> list[dict[str, Any]]:
        if namespace is None:
            return list(call(self._api.list_cluster_custom_object, GROUP, VERSION, plural)["items"])
        return list(call(self._api.list_namespaced_custom_object, GROUP, VERSION, namespace, plural)["items"])

    def _get(self, plural: str, name: str, namespace: str | None = None) -> dict[str, Any]:
        if namespace is None:
            return dict(call(self._api.get_cluster_custom_object, GROUP, VERSION, plural, name))
        return dict(call(self._api.get_namespaced_custom_object, GROUP, VERSION, namespace, plural, name))


def wait_of(workload: dict[str, Any], runs: Mapping[str, str]) -> Wait:
    """What a Workload's conditions say, in the words of Kueue. runs: uid of a Job → its name.

    Source: the condition types and reasons in apis/kueue/v1beta2/workload_types.go of Kueue's module.
    """
    conditions = {found["type"]: found for found in workload.get("status", {}).get("conditions", ())}
    if _holds(conditions, "Admitted"):
        return Wait("admitted")
    evicted = _holds(conditions, "Evicted")
    said = [
        conditions[kind]["message"]
        for kind, wanted in (("Evicted", evicted), ("QuotaReserved", True))
        if wanted and kind in conditions
    ]
    preempted = evicted and conditions["Evicted"]["reason"] == "Preempted"
    named = (_named(text, runs) for text in dict.fromkeys(said))
    reason = "; ".join(named) or "Kueue has not looked at it yet"
    return Wait("preempted" if preempted else "queued", reason)


def _named(text: str, runs: Mapping[str, str]) -> str:
    """`text` with the name of a run that goes first in place of its numbers, and without the paths of queues."""

    def name(found: re.Match[str]) -> str:
        return runs.get(found[1], found[0])

    return re.sub(
        r"a workload \(UID: [-\w]+, JobUID: ([-\w]+)\)", name, text.partition("; preemptor path")[0]
    )


def queue_of(job: Any) -> str:
    """The queue a Job waits in; empty for one that waits in none."""
    return (job.metadata.labels or {}).get(QUEUE_LABEL, "")


def _holds(conditions: dict[str, Any], kind: str) -> bool:
    return kind in conditions and conditions[kind]["status"] == "True"


def _known(what: str, name: str, known: list[str], where: str) -> None:
    if name not in known:
        raise SitewrightError(
            f"no {what} {name!r} {where}; there is {', '.join(known) or 'none'}",
            "services.batch_queues of the site file says which there are.",
        )
