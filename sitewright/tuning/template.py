"""What a cluster offers for fine-tuning, and the Kubernetes Job that a run becomes there.

`pulumi up` leaves the template in a ConfigMap; `sitewright tune` makes one Job of it per run. A run is an event, not
a desired state, so no Job is ever part of a stack.

On the shared file system:

    runs/<run>/            what one run reads, writes and leaves
    adapters/<model>/<id>/ what is served beside the model, one directory per version, never changed
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

CONFIG_MAP = "fine-tuning"  # name of the ConfigMap
TEMPLATE = "template.json"  # its key; each file of the program is one too
PARTS = ("entry", "processes", "data", "judge", "files")
PROGRAM = tuple(f"fine_tuning_{part}.py" for part in PARTS)
MODULE = "modules.tuning.fine_tuning_entry"
RUNS, ADAPTERS = "runs", "adapters"  # directories of the shared file system
RUN_LABEL = "sitewright.dev/run"
QUEUE_LABEL, PRIORITY_LABEL = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"
CPU, MEMORY, GPU = "cpu", "memory", "nvidia.com/gpu"  # what a run requests, by Kubernetes' names
COMPONENT = {"app.kubernetes.io/component": "fine-tuning"}
STOPPED = 75  # exit status of a run that has written a checkpoint and is to be continued
HOPELESS = 1  # exit status of a run that said what is wrong: trying again would say it again
TRIES = 6  # pods that may crash without a word before the Job is given up
GRACE = 600  # seconds from SIGTERM to SIGKILL: the longest step and the writing of a checkpoint


class TunableModel(BaseModel):
    """A served model, and what serves and trains it. All paths as a node sees them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(description="weights")
    digest: str = Field(description="of the weights")
    python: str = Field(description="interpreter of the software environment")
    image: str = Field(description="container image by digest")
    max_length: int | None = Field(None, description="tokens of one row; None: the model's own")


class TrainingTemplate(BaseModel):
    """Where and how runs of one cluster go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: str
    models: dict[str, TunableModel] = Field(description="by the name under which a model is served")
    serving_namespace: str = Field(description="namespace of the models' pods")
    node_selector: dict[str, str]
    tolerations: list[dict[str, str]]
    gpus: int = Field(description="per run; 0 trains on CPU")
    cpus: int = Field(description="per run")
    memory: str = Field(description="limit per run, as Kubernetes writes it")
    shared_path: str = Field(description="the shared file system as nodes see it")
    publish_dir: str = Field(description="the same as the operator's machine sees it")

    def seen_here(self, path: str) -> Path:
        """A path on the shared file system, given as nodes see it, as the operator's machine does."""
        return Path(self.publish_dir) / PurePosixPath(path).relative_to(self.shared_path)


@dataclass(frozen=True)
class Turn:
    """Where a run waits for its turn. queue: one of the namespace; "" where there are none. priority: "" for 0."""

    queue: str = ""
    priority: str = ""

    @property
    def labels(self) -> dict[str, str]:
        given = {QUEUE_LABEL: self.queue, PRIORITY_LABEL: self.priority}
        return {label: name for label, name in given.items() if name}


def job(
    template: TrainingTemplate, run: str, model: str, time_limit: int, turn: Turn = Turn()
) -> dict[str, Any]:
    """The Job of one run, called as the run is. With a queue it is suspended until that lets it go.

    time_limit: seconds, pauses not counted; a run that takes longer is ended, and can be resumed.
    A pod that is preempted, drained or lost with its node counts as no failure; another one continues from the last
    checkpoint once the first is gone, since two must not write into one directory.
    """
    tuned = template.models[model]
    labels = {**COMPONENT, RUN_LABEL: run, "sitewright.dev/model": model}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": run, "namespace": template.namespace, "labels": {**labels, **turn.labels}},
        "spec": {
            **({"suspend": True} if turn.queue else {}),
            "backoffLimit": TRIES,
            "activeDeadlineSeconds": time_limit,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {"action": "Ignore", "onExitCodes": _exit_codes(STOPPED)},
                    {"action": "FailJob", "onExitCodes": _exit_codes(HOPELESS)},
                ]
            },
            "template": {"metadata": {"labels": labels}, "spec": _pod(template, tuned, run)},
        },
    }


def _exit_codes(status: int) -> dict[str, Any]:
    return {"containerName": "train", "operator": "In", "values": [status]}


def _pod(template: TrainingTemplate, tuned: TunableModel, run: str) -> dict[str, Any]:
    runs = f"{template.shared_path}/{RUNS}/{run}"
    # Alone in a directory: what lies beside other modules would hide those of Python with the same names.
    program = [{"key": name, "path": f"modules/tuning/{name}"} for name in PROGRAM]
    return {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE,
        "nodeSelector": template.node_selector,
        "tolerations": template.tolerations,
        "containers": [
            {
                "name": "train",
                "image": tuned.image,
                # No shell in between: the program itself gets the SIGTERM on which it writes a checkpoint.
                "command": [tuned.python, "-m", MODULE, runs],
                "env": [{"name": key, "value": value} for key, value in _environment(template).items()],
                "resources": _resources(template),
                "volumeMounts": [
                    {"name": "shared", "mountPath": template.shared_path, "readOnly": True},
                    {"name": "run", "mountPath": runs},
                    {"name": "entry", "mountPath": "/entry", "readOnly": True},
                    {"name": "shm", "mountPath": "/dev/shm"},
                    {"name": "tmp", "mountPath": "/tmp"},
                ],
            }
        ],
        "volumes": [
            {"name": "shared", "hostPath": {"path": template.shared_path, "type": "Directory"}},
            {"name": "run", "hostPath": {"path": runs, "type": "Directory"}},
            {"name": "entry", "configMap": {"name": CONFIG_MAP, "items": program}},
            {
                "name": "shm",
                "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi" if template.gpus else "64Mi"},
            },
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
        ],
    }


def _resources(template: TrainingTemplate) -> dict[str, Any]:
    limits = {MEMORY: template.memory}
    if template.gpus:
        limits[GPU] = str(template.gpus)
    # Without a GPU a run takes what serving leaves over.
    return {"limits": limits, "requests": {**limits, CPU: str(template.cpus) if template.gpus else "250m"}}


def _environment(template: TrainingTemplate) -> dict[str, str]:
    return {
        "HOME": "/tmp",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": "/entry",
        "TRAIN_PROCESSES": str(template.gpus or 1),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        # One order of additions, whatever the node has.
        "OMP_NUM_THREADS": str(max(template.cpus // (template.gpus or 1), 1)),
        "TOKENIZERS_PARALLELISM": "false",
    }
