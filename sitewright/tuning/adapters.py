"""Adapters as they are served: one directory per version on the shared file system, which never changes.

vLLM finds an adapter by its name at its first use, on every replica, also after a restart. The same name with other
weights would be answered from the old prefix cache (vllm issue 42125); so every version has a name of its own.
"""

import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sitewright.artifacts.recipes import file_digest
from sitewright.errors import SitewrightError
from sitewright.tuning.adapter_files import CONFIG, faults
from sitewright.tuning.cluster import Cluster
from sitewright.tuning.runs import ADAPTER, RECORD, Run
from sitewright.tuning.template import ADAPTERS, TrainingTemplate

# What vLLM joins to a path must not lead out of it.
NAME = r"^[a-z0-9][a-z0-9.-]{0,62}$"
VERSION = re.compile(r"^(?P<name>.+)--v(?P<number>[1-9][0-9]*)$")
PORT = 8000  # of vLLM
ANY_SAMPLE = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "answer": None}


@dataclass(frozen=True)
class Adapter:
    """id: the model name under which it is asked for; directory: as this machine sees it."""

    id: str
    model: str
    directory: Path

    @property
    def record(self) -> dict[str, Any]:
        """The record of the run it came from: base, data, recipe, seed and measures."""
        path = self.directory / RECORD
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise SitewrightError(f"{path}: cannot be read as JSON: {error}") from error


def every(template: TrainingTemplate) -> list[Adapter]:
    """All published versions, by model, name and number."""
    root = Path(template.publish_dir) / ADAPTERS
    found = [
        Adapter(path.name, path.parent.name, path)
        for path in root.glob("*/*")
        if VERSION.match(path.name) and (path / CONFIG).is_file()
    ]
    return sorted(found, key=lambda adapter: (adapter.model, *_name_and_number(adapter.id)))


def find(template: TrainingTemplate, adapter: str) -> Adapter:
    """Raises: SitewrightError when nothing of that name is published."""
    for found in every(template):
        if found.id == adapter:
            return found
    raise SitewrightError(f"no adapter {adapter!r} is published", "`sitewright adapters list` shows all.")


def judge(record: dict[str, Any], better_by: float) -> str:
    """What speaks against publishing what a run left; empty if nothing does.

    better_by: how much lower the loss on the held-out rows must be than that of the model it came from.
    """
    measured = record.get("evaluation") or {}
    before, after = measured.get("base_loss"), measured.get("tuned_loss")
    if before is None or after is None:
        return "it was not judged: it was submitted without --evaluation"
    if not after <= before - better_by:
        return f"its loss on the held-out rows is {after:.4f}; {before:.4f} without it, {better_by} better wanted"
    return ""


def publish(template: TrainingTemplate, run: Run, name: str) -> Adapter:
    """The next version of `name`, with the files of a finished LoRA run.

    Raises: SitewrightError when the run is not finished, was no LoRA run, belongs to other weights than those that are
    served now, or left files that are not those it recorded or that vLLM would not use. Nothing is published then.
    """
    record = run.record
    if record is None:
        raise SitewrightError(
            f"{run.id} is not finished", f"sitewright tune logs {run.id} shows how far it is."
        )
    if not re.fullmatch(NAME, name) or "--" in name:
        raise SitewrightError(f"name {name!r}: lower-case letters, digits, '.' and single '-' make a name")
    model = run.request["model"]
    source = run.directory / ADAPTER
    _fits(template, run, model, source, record)
    root = Path(template.publish_dir) / ADAPTERS / model
    numbers = [0, *(_name_and_number(found.name)[1] for found in root.glob(f"{name}--v*"))]
    target = root / f"{name}--v{max(numbers) + 1}"
    try:
        _copy(source, run.directory / RECORD, target)
    except OSError as error:
        raise SitewrightError(
            f"{target}: {error.strerror or error}; nothing was published",
            "Publish from a machine that has the shared file system mounted writable.",
        ) from error
    return Adapter(target.name, model, target)


def warm(cluster: Cluster, template: TrainingTemplate, adapter: Adapter) -> list[str]:
    """Has every ready replica answer with the adapter. Returns their names.

    Each is asked what the training program asked last, and must say the same, word for word: vLLM serves the model
    without a word where it cannot apply an adapter (vllm issues 34186, 34591, 48019).
    Raises: SitewrightError when there is none, or one of them answers as another model, otherwise, or not at all.
    """
    pods = cluster.serving(template, adapter.model)
    if not pods:
        raise SitewrightError(f"no replica of {adapter.model} is ready", "kubectl get pods shows why.")
    samples = (adapter.record.get("evaluation") or {}).get("samples") or [ANY_SAMPLE]
    for pod in pods:
        for sample in samples:
            _same(cluster, template, pod, adapter.id, sample)
    return pods


def _same(
    cluster: Cluster, template: TrainingTemplate, pod: str, adapter: str, sample: dict[str, Any]
) -> None:
    body = {"model": adapter, "messages": sample["messages"], "max_tokens": sample["max_tokens"]}
    answer = cluster.ask(template, pod, PORT, "/v1/chat/completions", {**body, "temperature": 0})
    if answer["model"] != adapter:
        raise SitewrightError(f"pod {pod} answered as {answer['model']!r}, not as {adapter!r}")
    said = answer["choices"][0]["message"]["content"]
    if sample["answer"] is not None and said != sample["answer"]:
        raise SitewrightError(
            f"pod {pod} does not say with {adapter} what the training said: {said!r}, not {sample['answer']!r}",
            "The adapter is published, and should not be used: publish another version.",
        )


def _fits(template: TrainingTemplate, run: Run, model: str, source: Path, record: dict[str, Any]) -> None:
    if not (source / CONFIG).is_file():
        raise SitewrightError(f"{run.id} was no LoRA run; only adapters are served beside a model")
    if model not in template.models or template.models[model].digest != run.request["base_digest"]:
        raise SitewrightError(
            f"{run.id} was tuned on other weights than those that {model} serves now", "Submit it anew."
        )
    files = {name: f"{digest}" for name, digest in record["adapter_files"].items()}
    wrong = [name for name, digest in files.items() if not _is(source / name, digest)]
    if wrong or not files:
        raise SitewrightError(
            f"{source}: {', '.join(wrong) or 'files'} not as the run recorded them",
            "Resume or repeat the run.",
        )
    if against := faults(source, template.seen_here(template.models[model].path)):
        raise SitewrightError(f"{run.id} would not be served: {'; '.join(against)}")


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest


def _copy(source: Path, record: Path, target: Path) -> None:
    """A directory that is whole as soon as it has its name; a later one takes the next number."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        scratch.chmod(0o755)
        for path in [*sorted(source.iterdir()), record]:
            copied = Path(shutil.copyfile(path, scratch / path.name))
            with copied.open("rb") as file:
                os.fsync(file.fileno())
        scratch.rename(target)  # refuses a directory that is not empty: a version is never written over
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _name_and_number(adapter: str) -> tuple[str, int]:
    match = VERSION.match(adapter)
    return (match["name"], int(match["number"])) if match else (adapter, 0)
