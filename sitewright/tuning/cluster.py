"""The cluster as `sitewright tune` and `sitewright adapters` see it: the template, Jobs, and pods that serve."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import kubernetes
from kubernetes.utils.quantity import parse_quantity
from pydantic import ValidationError

from sitewright.errors import SitewrightError
from sitewright.kubernetes_api import Missing, call, load_kubeconfig
from sitewright.tuning.queues import Queues, Wait, queue_of
from sitewright.tuning.template import CONFIG_MAP, RUN_LABEL, TEMPLATE, TrainingTemplate, Turn, job

ANSWER_TIMEOUT = 120  # seconds for one answer of a model, which may load an adapter first
IN_NO_QUEUE = "it was submitted before there were queues; cancel it, then resume it with --queue"


@dataclass(frozen=True)
class JobState:
    """state: queued, preempted, admitted (by its queue), waiting (without one), running, stopping, finished or failed;
    reason: why it waits or failed, as far as the cluster says."""

    state: str
    reason: str = ""


class Cluster:
    """namespace: where the runs are, `services.fine_tuning.namespace` of the site file.

    Every method raises SitewrightError when the API server does not answer or refuses.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        load_kubeconfig()
        self._core = kubernetes.client.CoreV1Api()
        self._batch = kubernetes.client.BatchV1Api()
        self.queues = Queues(namespace)

    def template(self) -> TrainingTemplate:
        try:
            found = call(self._core.read_namespaced_config_map, CONFIG_MAP, self._namespace)
            return TrainingTemplate.model_validate_json(found.data[TEMPLATE])
        except Missing:
            raise SitewrightError(
                f"namespace {self._namespace!r} has no ConfigMap {CONFIG_MAP!r}: no runs are taken here",
                "Name the right --namespace, or add services.fine_tuning to the site file and run `pulumi up`.",
            ) from None
        except (ValidationError, KeyError) as error:
            raise SitewrightError(
                f"ConfigMap {CONFIG_MAP!r} of namespace {self._namespace!r} is not of this version: {error}",
                "Run `pulumi up` from this checkout.",
            ) from error

    def submit(
        self,
        template: TrainingTemplate,
        run: str,
        model: str,
        time_limit: int,
        turn: Turn,
        dry_run: bool = False,
    ) -> None:
        """dry_run: lets the API server judge the Job, which is not made.

        Raises: SitewrightError also when there is such a Job already.
        """
        body = job(template, run, model, time_limit, turn)
        mode = {"dry_run": "All"} if dry_run else {}
        call(self._batch.create_namespaced_job, self._namespace, body, **mode)

    def requests(self, template: TrainingTemplate, run: str, model: str) -> set[str]:
        """Names of the resources that the pod of a run requests: of the Job, and of LimitRanges of the namespace.

        The API server makes the pod and does not keep it, which is the only way to know what it would add.
        """
        pod = job(template, run, model, 1)["spec"]["template"]
        body = {**pod, "metadata": {**pod["metadata"], "name": run}}
        made = call(self._core.create_namespaced_pod, self._namespace, body, dry_run="All")
        containers = [*(made.spec.init_containers or ()), *made.spec.containers]
        wanted = [(found.resources.requests or {}) for found in containers] + [made.spec.overhead or {}]
        return {name for requests in wanted for name, amount in requests.items() if parse_quantity(amount)}

    def end(self, run: str) -> bool:
        """Deletes the Job; its pod gets the time to write a checkpoint. False if there is none."""
        try:
            call(self._batch.delete_namespaced_job, run, self._namespace, propagation_policy="Foreground")
        except Missing:
            return False
        return True

    def states(self) -> dict[str, JobState]:
        """By run; a run that is not in it has no Job."""
        jobs = call(self._batch.list_namespaced_job, self._namespace, label_selector=RUN_LABEL).items
        names = {found.metadata.uid: found.metadata.name for found in jobs}
        waits = self.queues.waits(names) if any(queue_of(found) for found in jobs) else {}
        return {found.metadata.name: self._explained(found, waits) for found in jobs}

    def _explained(self, found: Any, waits: Mapping[str, Wait]) -> JobState:
        state = _state(found, waits.get(found.metadata.uid))
        if state.state not in ("admitted", "waiting") or state.reason:
            return state
        pods = self._pods(self._namespace, f"{RUN_LABEL}={found.metadata.name}")
        return JobState(state.state, "; ".join(filter(None, map(_held_up, pods))))

    def log(self, run: str, lines: int) -> str:
        """What the last pod of a run printed; empty if it has none, or printed nothing yet."""
        pods = self._pods(self._namespace, f"{RUN_LABEL}={run}")
        if not pods:
            return ""
        last = max(pods, key=lambda pod: pod.metadata.creation_timestamp)
        try:
            return str(
                call(
                    self._core.read_namespaced_pod_log, last.metadata.name, self._namespace, tail_lines=lines
                )
            )
        except SitewrightError:
            return ""  # its container has not started

    def serving(self, template: TrainingTemplate, model: str) -> list[str]:
        """Names of the ready pods of a served model."""
        pods = self._pods(template.serving_namespace, f"app.kubernetes.io/name={model}")
        return [pod.metadata.name for pod in pods if _ready(pod)]

    def ask(self, template: TrainingTemplate, pod: str, port: int, path: str, body: dict[str, Any]) -> Any:
        """POSTs to one pod, through the API server. Returns the JSON it answers with."""
        resource = f"/api/v1/namespaces/{template.serving_namespace}/pods/{pod}:{port}/proxy{path}"
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        client = self._core.api_client
        request = client.param_serialize(
            "POST", resource, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        answer = call(client.call_api, *request, _request_timeout=ANSWER_TIMEOUT)
        text = (answer.read() or b"").decode(errors="replace")
        if answer.status != 200:
            raise SitewrightError(f"pod {pod}{path}: {answer.status} {text[:500]}")
        return json.loads(text)

    def _pods(self, namespace: str, selector: str) -> list[Any]:
        return list(call(self._core.list_namespaced_pod, namespace, label_selector=selector).items)


def _state(found: Any, wait: Wait | None) -> JobState:
    for condition in found.status.conditions or ():
        if condition.status == "True" and condition.type == "Complete":
            return JobState("finished")
        if condition.status == "True" and condition.type == "Failed":
            return JobState("failed", condition.message or condition.reason or "")
    if found.metadata.deletion_timestamp is not None:
        return JobState("stopping")
    if not found.spec.suspend and found.status.ready:
        return JobState("running")
    if not queue_of(found):
        return JobState("waiting", IN_NO_QUEUE if found.spec.suspend else "")
    if wait is None:
        return JobState("queued", "Kueue has not seen it; does it run?")
    return JobState(wait.state, wait.reason)


def _held_up(pod: Any) -> str:
    """Why a pod does not run yet: no node takes it, or its container does not start. Empty where nothing is said."""
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.message or condition.reason or ""
    for container in pod.status.container_statuses or ():
        if container.state and container.state.waiting:
            waiting = container.state.waiting
            return ": ".join(filter(None, (waiting.reason, waiting.message)))
    return ""


def _ready(pod: Any) -> bool:
    conditions = pod.status.conditions or ()
    ready = any(condition.type == "Ready" and condition.status == "True" for condition in conditions)
    return ready and pod.metadata.deletion_timestamp is None
