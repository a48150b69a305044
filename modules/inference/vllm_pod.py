"""The pod of a replica that vLLM serves, alone or as one of a group, and what may be said about it.

Every number here has its reason in how vLLM 0.32 behaves: it aborts all streams on SIGTERM unless given a
shutdown timeout, still answers /health while it drains, and answers 503 on overload only when told a limit.
"""

from ipaddress import IPv4Network
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from modules.inference.gpu_flavours import FLAVOURS, Flavour, FlavourName
from modules.inference.serving import PRE_STOP_SECONDS, ending, open_to, toleration
from modules.spec import DNS_LABEL, MEBI, TAINT, Model, quantity
from sitewright.site.names import POOL_LABEL, model_name

PORT = 8000
SLACK_SECONDS = 30
MIN_READY_SECONDS = 20  # a replica that dies of its first requests must not make way for the next
BLADE_LABEL = "sitewright.dev/blade"  # xname of the blade: nodes of one lose power together
PRIORITY_CLASS = "inference"
MAX_SEQUENCES = 8
MAX_LORA_RANK = 64
WATCHDOG = Path(__file__).with_name("vllm_watchdog.py").read_text()
STOP = Path(__file__).with_name("vllm_stop.py").read_text()
CONNECTIONS = Path(__file__).with_name("vllm_connections.py")
PROGRAMS = "/etc/vllm"  # where vLLM finds it


class VllmServiceSpec(Model):
    name: Annotated[str, AfterValidator(model_name)] = Field(
        description="DNS name of the service, and name of the served model"
    )
    namespace: str = Field("default", pattern=DNS_LABEL)
    image: str = Field(description="container image by digest")
    python: str = Field(description="interpreter of the software environment, as a node sees it")
    model_path: str = Field(description="weights, as a node sees them")
    model_digest: str = Field("", description="kept on the pods, so that other weights mean other pods")
    shared_path: str = Field("/shared", description="shared file system, mounted read-only")
    pool: str = Field(pattern=DNS_LABEL, description="pool whose nodes may run it")
    taints: tuple[Annotated[str, Field(pattern=TAINT)], ...] = Field((), description="of the pool's nodes")
    flavour: FlavourName | None = Field(
        None, description="kind of node that image and environment were built for; None: any"
    )
    replicas: int = Field(2, ge=1)
    gpus: int = Field(
        1, ge=0, description="per replica; above 1 the model is split over them; 0 serves on CPU"
    )
    cpus: int = Field(ge=1)
    memory: int = Field(ge=256 * MEBI, description="bytes, limit per replica")
    node_port: int | None = Field(None, ge=30000, le=32767)
    clients: tuple[IPv4Network, ...] = Field((), description="who may ask, beside pods of the namespace")
    max_model_len: int | None = Field(None, ge=1)
    adapters: str = Field(
        "", description="directory of LoRA adapters as a node sees it; each is served under its own name"
    )
    startup_budget: int = Field(900, ge=60, description="seconds a replica may take to load")
    drain_timeout: int = Field(600, ge=1, description="seconds a stream may take to end")

    @property
    def node(self) -> Flavour | None:
        return FLAVOURS[self.flavour] if self.flavour else None

    @model_validator(mode="after")
    def _fits_a_node(self) -> Self:
        if self.node is not None and self.gpus > max(self.node.gpus):
            raise ValueError(
                f"gpus: {self.gpus}, and a node of {self.flavour} has {max(self.node.gpus)} at most"
            )
        return self


def pod(spec: VllmServiceSpec) -> dict[str, Any]:
    return {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        **ending(grace(spec)),
        "priorityClassName": PRIORITY_CLASS,
        "nodeSelector": {POOL_LABEL: spec.pool, **(spec.node.selector if spec.node else {})},
        **({"tolerations": [toleration(taint) for taint in spec.taints]} if spec.taints else {}),
        "topologySpreadConstraints": [
            _spread(spec, "kubernetes.io/hostname", "DoNotSchedule"),
            # A wish: a pool may have fewer blades than replicas.
            _spread(spec, BLADE_LABEL, "ScheduleAnyway"),
        ],
        "containers": [container(spec)],
        "volumes": [
            {"name": "shared", "hostPath": {"path": spec.shared_path, "type": "Directory"}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _shared_memory(spec)}},
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
            {"name": "programs", "configMap": {"name": spec.name}},
        ],
    }


def _shared_memory(spec: VllmServiceSpec) -> str:
    if spec.gpus == 0:
        return "64Mi"
    return quantity(spec.node.shared_memory(spec.gpus)) if spec.node else "16Gi"


def _spread(spec: VllmServiceSpec, over: str, otherwise: str) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": over,
        "whenUnsatisfiable": otherwise,
        # A cordoned node is not an empty one.
        "nodeTaintsPolicy": "Honor",
        "matchLabelKeys": ["pod-template-hash"],
        "labelSelector": {"matchLabels": labels(spec)},
    }


def grace(spec: VllmServiceSpec) -> int:
    """Seconds from the wish to end a pod to its kill."""
    return PRE_STOP_SECONDS + spec.drain_timeout + SLACK_SECONDS


def turn(spec: VllmServiceSpec) -> int:
    """Seconds in which a replica gives way to the next: the old one drains before the new one can load."""
    return grace(spec) + spec.startup_budget + SLACK_SECONDS


def container(spec: VllmServiceSpec) -> dict[str, Any]:
    health = {"httpGet": {"path": "/health", "port": PORT}}
    resources: dict[str, Any] = {"memory": quantity(spec.memory)}
    if spec.gpus:
        resources["nvidia.com/gpu"] = str(spec.gpus)
    return {
        "name": "vllm",
        "image": spec.image,
        "command": [spec.python, "-m", "vllm.entrypoints.openai.api_server"],
        "args": arguments(spec),
        "env": [{"name": name, "value": value} for name, value in environment(spec).items()],
        "ports": [{"name": "http", "containerPort": PORT}],
        "lifecycle": {
            "preStop": {
                "exec": {"command": [spec.python, "-I", "-S", "-c", STOP, str(PORT), str(PRE_STOP_SECONDS)]}
            }
        },
        "startupProbe": {**health, "periodSeconds": 2, "failureThreshold": ceil(spec.startup_budget / 2)},
        "readinessProbe": {**health, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {
            "exec": {"command": [spec.python, "-I", "-S", "-c", WATCHDOG, str(PORT)]},
            "periodSeconds": 15,
            "timeoutSeconds": 15,
            "failureThreshold": 4,
            # One that hangs has no stream that could still end.
            "terminationGracePeriodSeconds": SLACK_SECONDS,
        },
        "resources": {
            # No limit on CPU: throttling a serving process costs more than sharing.
            "requests": {**resources, "cpu": "500m" if spec.gpus == 0 else str(spec.cpus)},
            "limits": resources,
        },
        "volumeMounts": [
            {"name": "shared", "mountPath": spec.shared_path, "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "programs", "mountPath": PROGRAMS, "readOnly": True},
        ],
    }


def arguments(spec: VllmServiceSpec) -> list[str]:
    arguments = [
        *("--model", spec.model_path),
        *("--served-model-name", spec.name),
        *("--host", "0.0.0.0"),
        *("--port", str(PORT)),
        *("--shutdown-timeout", str(spec.drain_timeout)),
        *("--max-num-seqs", str(MAX_SEQUENCES if spec.gpus == 0 else 256)),
        *("--max-num-queued-reqs", str(4 * MAX_SEQUENCES if spec.gpus == 0 else 320)),
        *("--disable-access-log-for-endpoints", "/health,/metrics,/ping"),
        *("--middleware", f"{CONNECTIONS.stem}.CloseAfterAnswer"),
    ]
    if spec.max_model_len:
        arguments += ["--max-model-len", str(spec.max_model_len)]
    if spec.gpus > 1:
        arguments += ["--tensor-parallel-size", str(spec.gpus)]
    arguments += spec.node.arguments(spec.gpus) if spec.node else []
    if spec.adapters:
        arguments += ["--enable-lora", "--max-lora-rank", str(MAX_LORA_RANK)]
        arguments += ["--max-loras", "4", "--max-cpu-loras", "16"]
    if spec.gpus == 0:
        # Together these skip the warm-up; without the size of the cache it claims 92 % of the memory.
        arguments += ["--dtype", "float32", "--enforce-eager", "--kv-cache-memory-bytes", "64M"]
        arguments += ["--distributed-executor-backend", "uni"]
    return arguments


def environment(spec: VllmServiceSpec) -> dict[str, str]:
    common = {
        "HOME": "/tmp",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": PROGRAMS,
        "VLLM_NO_USAGE_STATS": "1",
        # Its own 600 s would end a large model's start before the startup probe does.
        "VLLM_ENGINE_READY_TIMEOUT_S": str(spec.startup_budget),
    }
    if spec.adapters:
        # Every replica, old or new, finds an adapter by its name at its first use. Adapters that are loaded through
        # the API are lost when a replica restarts (vllm issue 12174).
        common |= {
            "VLLM_PLUGINS": "lora_filesystem_resolver",
            "VLLM_LORA_RESOLVER_CACHE_DIR": spec.adapters,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        }
    if spec.gpus:
        return common
    return common | {
        # One process: the worker lives in the engine, nothing polls while idle.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # Otherwise every replica pins itself to the same cores.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(spec.cpus),
        # What vLLM works out at its first start was worked out when the environment was built.
        "VLLM_CACHE_ROOT": spec.python.removesuffix("/bin/python") + "/cache/vllm",
    }


def programs(spec: VllmServiceSpec) -> dict[str, Any]:
    """The ConfigMap with what of ours runs inside vLLM."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": spec.name, "namespace": spec.namespace, "labels": labels(spec)},
        "data": {CONNECTIONS.name: CONNECTIONS.read_text(encoding="utf-8")},
    }


def network_policy(spec: VllmServiceSpec) -> dict[str, Any]:
    """Who reaches the replicas. vLLM itself answers some paths without asking for a key (vllm issue 58144).

    Probes need no rule: the kubelet of a pod's own node is always let in.
    """
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": spec.name, "namespace": spec.namespace, "labels": labels(spec)},
        "spec": {
            "podSelector": {"matchLabels": labels(spec)},
            "policyTypes": ["Ingress"],
            "ingress": [open_to(spec.clients, PORT)],
        },
    }


def labels(spec: VllmServiceSpec) -> dict[str, str]:
    return {"app.kubernetes.io/name": spec.name, "app.kubernetes.io/component": "vllm"}
