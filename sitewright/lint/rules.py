"""The rules. Each looks at one engine among all objects, and says what is wrong and what would be right."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sitewright.lint.manifests import Engine, Manifest, engines
from sitewright.vllm_metrics import RENAMED

Severity = Literal["error", "warning"]
Found = Iterator[tuple[str, str]]
Check = Callable[[Engine, Sequence[Manifest]], Found]

STARTUP = 300  # seconds in which the smallest useful model has loaded from a parallel file system
MARGIN = 15  # seconds between the end of the drain and the kill


@dataclass(frozen=True)
class Rule:
    """source: why it is known to go wrong."""

    id: str
    severity: Severity
    source: str
    check: Check


@dataclass(frozen=True)
class Finding:
    rule: str
    severity: Severity
    place: str
    object: str
    message: str
    fix: str
    source: str


RULES: list[Rule] = []


def lint(manifests: Sequence[Manifest], diskless: bool = False) -> list[Finding]:
    """What is wrong, in the order of the objects. diskless: the memory of a node is its disk."""
    found = [
        Finding(
            rule.id,
            _severity(rule, diskless),
            engine.manifest.place,
            _named(engine.manifest),
            *said,
            rule.source,
        )
        for engine in engines(manifests)
        for rule in RULES
        for said in rule.check(engine, manifests)
    ]
    return [*found, *_renamed_metrics(manifests)]


def _severity(rule: Rule, diskless: bool) -> Severity:
    return "error" if diskless and rule.id == "empty-dir-size" else rule.severity


def _named(manifest: Manifest) -> str:
    return f"{manifest.kind} {manifest.namespace}/{manifest.name}"


def rule(id: str, severity: Severity, source: str) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        RULES.append(Rule(id, severity, source, check))
        return check

    return add


@rule("service-links", "error", "vllm issue 34199")
def _service_links(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    if engine.pod.get("enableServiceLinks") is False or "VLLM_PORT" in engine.environment:
        return
    for other in manifests:
        if (other.kind, other.name, other.namespace) == ("Service", "vllm", engine.manifest.namespace):
            yield (
                "Service 'vllm' gives its pods VLLM_PORT=tcp://…, with which vLLM does not start",
                "rename the Service, or set enableServiceLinks: false",
            )


@rule("gpu-count", "error", "production-stack issue 276; vllm issue 37982")
def _gpu_count(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    split = engine.number("tensor-parallel-size", 1) * engine.number("pipeline-parallel-size", 1)
    there = engine.gpus * engine.pods
    if split > 1 and engine.gpus and split > there:
        yield (
            f"the model is split over {split} GPUs, and a replica has {there} ({split} > {there})",
            "ask for as many GPUs as tensor-parallel-size times pipeline-parallel-size",
        )


@rule("shared-memory", "error", "production-stack issue 276: NCCL cannot make its segment in 64 MiB")
def _shared_memory(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    if engine.number("tensor-parallel-size", 1) < 2:
        return
    memory = {v["name"] for v in engine.volumes if (v.get("emptyDir") or {}).get("medium") == "Memory"}
    mounts = engine.container.get("volumeMounts") or ()
    if not any(mount["mountPath"].rstrip("/") == "/dev/shm" and mount["name"] in memory for mount in mounts):
        yield (
            "tensor parallel, and /dev/shm is the container's 64 MiB",
            "mount an emptyDir with medium: Memory and a sizeLimit there",
        )


@rule("drain", "error", "vllm issue 24885; llm-d issue 927: SIGTERM aborts all streams by default")
def _drain(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    if engine.number("shutdown-timeout", 0) == 0:
        yield (
            "vLLM aborts every stream when its pod ends: --shutdown-timeout is 0",
            "set it to the longest answer, such as --shutdown-timeout 600",
        )


@rule(
    "pre-stop",
    "error",
    "production-stack issue 601: traffic still comes after SIGTERM, and is answered empty",
)
def _pre_stop(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    if "preStop" not in (engine.container.get("lifecycle") or {}):
        yield (
            "requests that arrive while the pod ends get 200 and no text",
            "lifecycle: {preStop: {sleep: {seconds: 15}}}",
        )


@rule("grace-period", "error", "Kubernetes kills when the grace period is over, whatever vLLM was promised")
def _grace(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    hook = (engine.container.get("lifecycle") or {}).get("preStop") or {}
    wait = int((hook.get("sleep") or {}).get("seconds", 0))
    needed = wait + engine.number("shutdown-timeout", 0) + MARGIN
    grace = int(engine.pod.get("terminationGracePeriodSeconds", 30))
    if grace < needed:
        yield (
            f"the pod is killed after {grace} s; it needs {needed} s (preStop {wait}, --shutdown-timeout, {MARGIN})",
            f"terminationGracePeriodSeconds: {needed} or more",
        )


@rule("startup-probe", "error", "kserve issue 5062; aibrix issue 772: killed while it loads, over and over")
def _startup(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    if "livenessProbe" not in engine.container and "startupProbe" not in engine.container:
        return
    probe = engine.container.get("startupProbe")
    if probe is None:
        budget = _budget(engine.container["livenessProbe"])
        yield f"no startupProbe: a load of more than {budget} s is killed", "add one that covers the load"
    elif _budget(probe) < STARTUP:
        yield f"startupProbe gives up after {_budget(probe)} s", f"allow {STARTUP} s or more"


def _budget(probe: dict[str, Any]) -> int:
    times = int(probe.get("failureThreshold", 3)) * int(probe.get("periodSeconds", 10))
    return int(probe.get("initialDelaySeconds", 0)) + times


@rule(
    "readiness-timeout", "warning", "a busy event loop answers /health late; kserve's 1 s makes replicas flap"
)
def _readiness(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    probe = engine.container.get("readinessProbe")
    if probe is None:
        yield "no readinessProbe: traffic comes before the model is loaded", "probe /health on the port"
    elif int(probe.get("timeoutSeconds", 1)) < 3:
        yield f"readinessProbe waits {probe.get('timeoutSeconds', 1)} s", "timeoutSeconds: 5"


@rule("roll-out", "warning", "production-stack issue 103; LLMKube issue 192")
def _roll_out(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    if engine.manifest.kind != "Deployment" or not engine.gpus:
        return
    strategy = engine.manifest.spec.get("strategy") or {}
    update = strategy.get("rollingUpdate") or {}
    if strategy.get("type") == "Recreate" or str(update.get("maxSurge", "25%")) in ("0", "0%"):
        return
    yield (
        "an update needs spare GPUs: the new pod comes before the old one goes, and may wait for ever",
        "strategy: Recreate, or maxSurge: 0 with maxUnavailable: 1",
    )


@rule("disruption-budget", "warning", "Kubernetes, PodDisruptionBudget; kured drains every node once a month")
def _budget_of(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    budgets = [
        m
        for m in manifests
        if m.kind == "PodDisruptionBudget" and _selects(m.spec.get("selector"), engine, m)
    ]
    if engine.replicas > 1 and not budgets:
        yield "a drain may take all replicas at once", "add a PodDisruptionBudget with maxUnavailable: 1"
    for budget in budgets:
        least, most = budget.spec.get("minAvailable"), budget.spec.get("maxUnavailable")
        blocks = str(most) in ("0", "0%") or str(least) == "100%"
        if blocks or (isinstance(least, int) and least >= engine.replicas * engine.pods):
            yield (
                f"PodDisruptionBudget {budget.name} lets no pod go: no node can be drained",
                "maxUnavailable: 1",
            )


def _selects(selector: Any, engine: Engine, by: Manifest) -> bool:
    wanted = (selector or {}).get("matchLabels") or {}
    same = by.namespace == engine.manifest.namespace
    return same and all(engine.labels.get(key) == value for key, value in wanted.items())


@rule("network-policy", "warning", "vllm issue 58144: some paths answer without the key")
def _network_policy(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    policies = [m for m in manifests if m.kind == "NetworkPolicy"]
    if not any(_selects(policy.spec.get("podSelector"), engine, policy) for policy in policies):
        yield "every pod of the cluster reaches vLLM, past the gateway", "add a NetworkPolicy for its pods"


@rule("key-in-arguments", "error", "arguments are shown by ps and by kubectl describe")
def _key(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    value = engine.flags.get("api-key")
    if isinstance(value, str) and not value.startswith("$"):
        yield "--api-key holds the key in clear", "set VLLM_API_KEY from a Secret"


@rule("image-digest", "warning", "litellm issue 24518: a tag may be another image tomorrow")
def _image(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    image = str(engine.container.get("image", ""))
    if "@sha256:" not in image:
        yield f"image {image!r} is named by tag", "name it by digest, image@sha256:…"


@rule("empty-dir-size", "warning", "LLMKube pull request 1452: the neighbours are evicted")
def _empty_dir(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    for volume in engine.volumes:
        if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
            yield (
                f"emptyDir {volume['name']!r} has no limit; a diskless node has only memory",
                "set a sizeLimit",
            )


@rule("queue-limit", "warning", "vLLM: requests wait without limit, and time out at the client")
def _queue(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    if not {"max-num-queued-reqs", "max-num-queued-tokens"} & engine.flags.keys():
        yield "an overloaded replica never says 503", "set --max-num-queued-reqs"


@rule("developer-mode", "error", "vLLM serves /sleep, /reset_prefix_cache and /collective_rpc with it")
def _developer(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    if engine.environment.get("VLLM_SERVER_DEV_MODE") not in (None, "", "0"):
        yield "VLLM_SERVER_DEV_MODE lets any client stop the engine", "remove it"


@rule("lora-servers", "error", "vLLM refuses both at once: adapters are loaded per process")
def _lora(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    loads = engine.environment.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") in ("1", "true", "True")
    if loads and engine.number("api-server-count", 1) > 1:
        yield "runtime adapters with more than one API server", "--api-server-count 1"


@rule("shared-volume", "error", "production-stack issue 107: the second replica never starts")
def _volume(engine: Engine, manifests: Sequence[Manifest]) -> Found:
    claims = {m.name: m for m in manifests if m.kind == "PersistentVolumeClaim"}
    for volume in engine.volumes:
        claim = claims.get((volume.get("persistentVolumeClaim") or {}).get("claimName", ""))
        modes = claim.spec.get("accessModes", []) if claim else []
        if claim and engine.replicas > 1 and not {"ReadWriteMany", "ReadOnlyMany"} & set(modes):
            yield (
                f"{engine.replicas} replicas share claim {claim.name!r}, which is {', '.join(modes)}",
                "ReadWriteMany",
            )


def _renamed_metrics(manifests: Sequence[Manifest]) -> Iterator[Finding]:
    for manifest in manifests:
        text = str(manifest.content)
        for old, new in RENAMED.items():
            if re.search(rf"{old}\b", text):
                yield Finding(
                    "metric-name",
                    "error",
                    manifest.place,
                    _named(manifest),
                    f"vLLM has no metric {old}: the query is always empty",
                    new,
                    "gateway-api-inference-extension pull request 1905",
                )
