"""Takes the pods off nodes, through the Eviction API, so that disruption budgets and long ends are respected.

A drain keeps nothing: what it has done is in the cluster, and the same drain again goes on from there.

Source: Kubernetes documentation, API-initiated Eviction: 201 it goes, 429 a budget does not allow it now,
500 a pod with several budgets, which no later try mends.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kubernetes import client

from sitewright.errors import SitewrightError
from sitewright.kubernetes_api import Missing, NoAnswer, Refused, call
from sitewright.lifecycle.cluster_node import cordon, read
from sitewright.lifecycle.pods import Pod, now, pods_of

POLL_SECONDS = 1.0
BUDGET_SECONDS = 5.0
"""Between two questions whether a budget allows an eviction now; the API server may ask for longer pauses."""
DEAD_NODE_SECONDS = 20.0
"""After the time to end is over, for a node whose kubelet says nothing: it confirms no end any more."""


@dataclass(frozen=True)
class Left:
    """A pod that is still there. reason: why."""

    pod: Pod
    reason: str


def require_owners(nodes: Sequence[str]) -> None:
    """Raises: SitewrightError for pods that nobody would make again."""
    if lone := [pod for node in nodes for pod in pods_of(node) if not pod.stays and not pod.owner]:
        raise SitewrightError(
            "nobody makes these pods again once they are gone: "
            + ", ".join(f"{pod} on {pod.node}" for pod in lone),
            "Nothing was changed. Delete them yourself, or say --force.",
        )


def budget_says(pod: Pod) -> str:
    """Why the pod could not be evicted now; empty if it could. Changes nothing."""
    try:
        _evict(pod, dry_run=True)
    except Missing:
        return ""
    except Refused as refused:
        return refused.message
    return ""


@dataclass
class Drain:
    """A drain of some nodes at a time.

    timeout: seconds until all their pods must be gone; tell: takes a line for what happened.
    clock, sleep, wall: replaced in tests.
    """

    nodes: Sequence[str]
    timeout: float
    tell: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    wall: Callable[[], float] = now
    _next_try: dict[str, float] = field(default_factory=dict)
    _reasons: dict[str, str] = field(default_factory=dict)
    _hopeless: set[str] = field(default_factory=set)
    _told: set[tuple[str, str]] = field(default_factory=set)

    def run(self) -> dict[str, list[Left]]:
        """Cordon the nodes and wait until their pods are gone. Returns: by node, what is left of it.

        Raises: NoAnswer where the API server is away at the deadline.
        """
        for node in self.nodes:
            cordon(node)
        deadline = self.clock() + self.timeout
        while True:
            try:
                self._ask_to_go(self._leaving())
                left = self._leaving()
                over = all(pod.uid in self._hopeless for pod in left)
            except NoAnswer as silent:
                if self.clock() >= deadline:
                    raise
                over = False
                self._tell_once("", silent.message)
            if over or self.clock() >= deadline:
                break
            self.sleep(POLL_SECONDS)
        found: dict[str, list[Left]] = {node: [] for node in self.nodes}
        for pod in left:
            found[pod.node].append(Left(pod, self._reasons.get(pod.uid, "it has not ended yet")))
        return found

    def _leaving(self) -> list[Pod]:
        return [pod for node in self.nodes for pod in self._leaving_of(node)]

    def _leaving_of(self, node: str) -> list[Pod]:
        dead = not read(node).ready
        return [pod for pod in pods_of(node) if not pod.stays and not (dead and self._is_lost(pod))]

    def _is_lost(self, pod: Pod) -> bool:
        lost = pod.ending is not None and self.wall() > pod.ending + pod.grace + DEAD_NODE_SECONDS
        if lost:
            self._tell_once(pod.uid, f"{pod.node}: {pod} given up: its node does not say that it has ended")
        return lost

    def _ask_to_go(self, pods: Sequence[Pod]) -> None:
        for pod in pods:
            if pod.ending is not None:
                self._ends(pod)  # told by whoever: us, a drain before this one, a user
            elif pod.uid not in self._hopeless and self.clock() >= self._next_try.get(pod.uid, 0.0):
                self._ask(pod)

    def _ends(self, pod: Pod) -> None:
        self._reasons[pod.uid] = f"it was told to end and has {pod.grace} s for that"
        lost = "; what it has in its emptyDir goes with it" if pod.scratch else ""
        self._tell_once(pod.uid, f"{pod.node}: {pod} ends, within {pod.grace} s{lost}", "ends")

    def _ask(self, pod: Pod) -> None:
        try:
            _evict(pod)
            self._ends(pod)
        except Missing:
            return
        except Refused as refused:
            if refused.status == 409:
                return  # another pod of this name is there by now
            self._reasons[pod.uid] = refused.message
            if refused.status == 429 or "because it is being terminated" in refused.message:
                self._next_try[pod.uid] = self.clock() + max(BUDGET_SECONDS, refused.retry_after)
            else:
                self._hopeless.add(pod.uid)
            self._tell_once(pod.uid, f"{pod.node}: {pod} stays for now: {refused.message}", refused.message)

    def _tell_once(self, uid: str, line: str, what: str = "") -> None:
        if (uid, what or line) not in self._told:
            self._told.add((uid, what or line))
            self.tell(line)


def _evict(pod: Pod, dry_run: bool = False) -> None:
    """The pod's own time to end counts: no other one is asked for."""
    options = {"preconditions": {"uid": pod.uid}, **({"dryRun": ["All"]} if dry_run else {})}
    body = {"metadata": {"name": pod.name, "namespace": pod.namespace}, "deleteOptions": options}
    call(client.CoreV1Api().create_namespaced_pod_eviction, pod.name, pod.namespace, body)
