"""Kubernetes manifests from files, and what in them runs vLLM."""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sitewright.errors import SitewrightError

ALIASES = {"tp": "tensor-parallel-size", "pp": "pipeline-parallel-size", "dp": "data-parallel-size"}
SERVER = "vllm.entrypoints.openai.api_server"


@dataclass(frozen=True)
class Manifest:
    """One object, and where it was written."""

    place: str
    content: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.content["kind"])

    @property
    def metadata(self) -> dict[str, Any]:
        return dict(self.content.get("metadata") or {})

    @property
    def name(self) -> str:
        return str(self.metadata.get("name", ""))

    @property
    def namespace(self) -> str:
        return str(self.metadata.get("namespace", "default"))

    @property
    def spec(self) -> dict[str, Any]:
        return dict(self.content.get("spec") or {})


@dataclass(frozen=True)
class Engine:
    """A container that runs vLLM. pods: how many make one replica; flags: without dashes, `True` without a value."""

    manifest: Manifest
    pod: dict[str, Any]
    labels: dict[str, str]
    pods: int
    container: dict[str, Any]
    flags: dict[str, str | bool]

    @property
    def replicas(self) -> int:
        return int(self.manifest.spec.get("replicas", 1))

    @property
    def gpus(self) -> int:
        """GPUs of one pod."""
        resources = self.container.get("resources") or {}
        wanted = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
        return sum(int(count) for name, count in wanted.items() if name.endswith("/gpu"))

    def number(self, flag: str, default: int) -> int:
        value = self.flags.get(flag)
        return int(value) if isinstance(value, str) and value.isdigit() else default

    @property
    def environment(self) -> dict[str, str | None]:
        return {entry["name"]: entry.get("value") for entry in self.container.get("env") or ()}

    @property
    def volumes(self) -> list[dict[str, Any]]:
        return list(self.pod.get("volumes") or ())


def read(paths: Iterable[Path]) -> list[Manifest]:
    """All objects of the files; a directory stands for its YAML files, `-` for what is piped in.

    Raises: SitewrightError, exit status 2, where something is no YAML or no Kubernetes object.
    """
    return [manifest for path in paths for file in _files(path) for manifest in _objects(file)]


def engines(manifests: Iterable[Manifest]) -> Iterator[Engine]:
    """Every container that runs vLLM, of whatever kind of object has pods."""
    for manifest in manifests:
        for pods, template in _templates(manifest):
            pod = template.get("spec") or {}
            labels = (template.get("metadata") or {}).get("labels") or {}
            for container in pod.get("containers") or ():
                words = _words(container)
                if _runs_vllm(container, words):
                    yield Engine(manifest, pod, labels, pods, container, _flags(words))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix in (".yaml", ".yml", ".json"))
        if not found:
            raise _unreadable(f"{path}: no .yaml, .yml or .json file in it")
        return found
    return [path]


def _objects(file: Path) -> Iterator[Manifest]:
    try:
        text = Path("/dev/stdin" if str(file) == "-" else file).read_text(encoding="utf-8")
        documents = list(YAML(typ="safe", pure=True).load_all(text))
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    except YAMLError as error:
        raise _unreadable(f"{file}: no YAML: {error}") from error
    for number, document in enumerate(documents, 1):
        place = f"{file}#{number}"
        for content in _listed(document):
            if not isinstance(content, dict) or not isinstance(content.get("kind"), str):
                raise _unreadable(f"{place}: no Kubernetes object: it has no `kind`")
            yield Manifest(place, content)


def _listed(document: Any) -> list[Any]:
    if document is None:
        return []
    if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
        return list(document.get("items") or ())
    return [document]


def _unreadable(message: str) -> SitewrightError:
    error = SitewrightError(
        message, "Nothing was looked at. Give rendered manifests: helm template … | sitewright lint -"
    )
    error.exit_status = 2  # type: ignore[attr-defined]
    return error


def _templates(manifest: Manifest) -> Iterator[tuple[int, dict[str, Any]]]:
    spec = manifest.spec
    if manifest.kind == "Pod":
        yield 1, manifest.content
    elif manifest.kind == "LeaderWorkerSet":
        group = spec.get("leaderWorkerTemplate") or {}
        # Workers run the leader's program where there is no template of their own.
        yield int(group.get("size", 1)), group.get("leaderTemplate") or group.get("workerTemplate") or {}
    elif "template" in spec:
        yield 1, spec["template"] or {}


def _words(container: dict[str, Any]) -> list[str]:
    """Command and arguments; what a shell would split is split."""
    words = [str(word) for word in [*(container.get("command") or ()), *(container.get("args") or ())]]
    return [part for word in words for part in (_split(word) if " " in word or "\n" in word else [word])]


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text.replace("\\\n", " "), comments=True)
    except ValueError:
        return text.split()


def _runs_vllm(container: dict[str, Any], words: list[str]) -> bool:
    serves = any(word.rsplit("/", 1)[-1] == "vllm" and "serve" in words[at:] for at, word in enumerate(words))
    image = str(container.get("image", "")).partition("@")[0].rsplit("/", 1)[-1]
    # The image's own entry point serves: a container that only has arguments, `vllm/vllm-openai`.
    return serves or SERVER in words or (not container.get("command") and image.startswith("vllm-openai"))


def _flags(words: list[str]) -> dict[str, str | bool]:
    flags: dict[str, str | bool] = {}
    for at, word in enumerate(words):
        if not word.startswith("-") or word.startswith("-c"):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        name = name.replace("_", "-")
        following = words[at + 1] if at + 1 < len(words) else "-"
        given: str | bool = value if equals else True if following.startswith("-") else following
        flags[ALIASES.get(name, name)] = given
    return flags
