"""The cluster as `sitewright tune` and `sitewright adapters` see it: the template, Jobs, and pods that serve."""

import json
from dataclasses import dataclass
from typing import Any

import kubernetes
from kubernetes.client import ApiException
from pydantic import ValidationError
from urllib3.exceptions import HTTPError

from sitewright.errors import SitewrightError
from sitewright.tuning.template import CONFIG_MAP, RUN_LABEL, TEMPLATE, TrainingTemplate, job

TIMEOUT = 15  # seconds for one answer of the API server
ANSWER_TIMEOUT = 120  # seconds for one answer of a model, which may load an adapter first


@dataclass(frozen=True)
class JobState:
    """state: waiting, running, stopping, finished or failed; reason: of a failure, empty otherwise."""

    state: str
    reason: str = ""


class Cluster:
    """namespace: where the runs are, `services.fine_tuning.namespace` of the site file.

    Every method raises SitewrightError when the API server does not answer or refuses.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        try:
            kubernetes.config.load_kube_config()
        except (kubernetes.config.ConfigException, OSError) as error:
            raise SitewrightError(
                f"kubeconfig: {error}", "Let KUBECONFIG name the cluster's kubeconfig (docs/README.md)."
            ) from error
        self._core = kubernetes.client.CoreV1Api()
        self._batch = kubernetes.client.BatchV1Api()

    def template(self) -> TrainingTemplate:
        try:
            found = self._call(self._core.read_namespaced_config_map, CONFIG_MAP, self._namespace)
            return TrainingTemplate.model_validate_json(found.data[TEMPLATE])
        except _Missing:
            raise SitewrightError(
                f"namespace {self._namespace!r} has no ConfigMap {CONFIG_MAP!r}: no runs are taken here",
                "Name the right --namespace, or add services.fine_tuning to the site file and run `pulumi up`.",
            ) from None
        except (ValidationError, KeyError) as error:
            raise SitewrightError(
                f"ConfigMap {CONFIG_MAP!r} of namespace {self._namespace!r} is not of this version: {error}",
                "Run `pulumi up` from this checkout.",
            ) from error

    def submit(self, template: TrainingTemplate, run: str, model: str, time_limit: int) -> None:
        """Raises: SitewrightError also when there is such a Job already."""
        self._call(self._batch.create_namespaced_job, self._namespace, job(template, run, model, time_limit))

    def validate(self, template: TrainingTemplate, run: str, model: str, time_limit: int) -> None:
        """Lets the API server judge the Job, which is not made."""
        body = job(template, run, model, time_limit)
        self._call(self._batch.create_namespaced_job, self._namespace, body, dry_run="All")

    def end(self, run: str) -> bool:
        """Deletes the Job; its pod gets the time to write a checkpoint. False if there is none."""
        try:
            self._call(
                self._batch.delete_namespaced_job, run, self._namespace, propagation_policy="Foreground"
            )
        except _Missing:
            return False
        return True

    def states(self) -> dict[str, JobState]:
        """By run; a run that is not in it has no Job."""
        jobs = self._call(self._batch.list_namespaced_job, self._namespace, label_selector=RUN_LABEL).items
        return {found.metadata.name: _state(found) for found in jobs}

    def log(self, run: str, lines: int) -> str:
        """What the last pod of a run printed; empty if it has none, or printed nothing yet."""
        pods = self._pods(self._namespace, f"{RUN_LABEL}={run}")
        if not pods:
            return ""
        last = max(pods, key=lambda pod: pod.metadata.creation_timestamp)
        try:
            return str(
                self._call(
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
        answer = self._call(client.call_api, *request, _request_timeout=ANSWER_TIMEOUT)
        text = (answer.read() or b"").decode(errors="replace")
        if answer.status != 200:
            raise SitewrightError(f"pod {pod}{path}: {answer.status} {text[:500]}")
        return json.loads(text)

    def _pods(self, namespace: str, selector: str) -> list[Any]:
        return list(self._call(self._core.list_namespaced_pod, namespace, label_selector=selector).items)

    def _call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **{"_request_timeout": TIMEOUT, **kwargs})
        except ApiException as error:
            if error.status == 404:
                raise _Missing(_said(error)) from error
            raise SitewrightError(f"the cluster refused: {_said(error)}") from error
        except (HTTPError, OSError) as error:
            raise SitewrightError(
                f"the cluster's API server does not answer: {error}",
                "Look whether KUBECONFIG names the right one.",
            ) from error


class _Missing(SitewrightError):
    """The API server knows no such object."""


def _said(error: ApiException) -> str:
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.status} {error.reason}"


def _state(found: Any) -> JobState:
    for condition in found.status.conditions or ():
        if condition.status == "True" and condition.type == "Complete":
            return JobState("finished")
        if condition.status == "True" and condition.type == "Failed":
            return JobState("failed", condition.message or condition.reason or "")
    if found.metadata.deletion_timestamp is not None:
        return JobState("stopping")
    return JobState("running" if found.status.ready else "waiting")


def _ready(pod: Any) -> bool:
    conditions = pod.status.conditions or ()
    ready = any(condition.type == "Ready" and condition.status == "True" for condition in conditions)
    return ready and pod.metadata.deletion_timestamp is None
