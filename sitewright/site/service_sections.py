"""What a site file says under `services`: models, and what stands around them.

As in `sections.py`, a section checks what one value can be told by itself.
"""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from sitewright.site.fields import (
    Directory,
    DnsLabel,
    HostPort,
    Model,
    ModelName,
    Quantity,
    SitePath,
)
from sitewright.site.names import sql_name
from sitewright.site.serving_values import allowance, as_period, first_word_bound, named, period

GIB = 2**30
SqlName = Annotated[str, AfterValidator(sql_name)]
Priority = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]
Allowance = Annotated[int, AfterValidator(allowance)]
Period = Annotated[
    int,
    BeforeValidator(period),
    PlainSerializer(as_period, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "examples": ["30d"]}),
]


class Router(Model):
    environment: DnsLabel = "vllm-router"
    """images/environments/<name>"""
    pool: str | None = None
    """one of pools, in the cluster of the model, with x86_64 nodes; default: the pool of the model"""
    replicas: int = Field(default=2, ge=1)
    policy: Literal["consistent_hash", "power_of_two", "round_robin", "cache_aware"] = "consistent_hash"
    """which replica gets a request; consistent_hash: by the header X-Session-ID, else by the request itself"""


class ServedModel(Model):
    name: ModelName
    """DNS name of the service and name of the served model"""
    cluster: str
    """one of clusters"""
    pool: str
    """one of pools"""
    model: Directory
    """directory below <shared>/models"""
    environment: DnsLabel
    """images/environments/<name>"""
    image: DnsLabel
    """images/containers/<name>"""
    replicas: int = Field(default=2, ge=1)
    nodes: int = Field(default=1, ge=1)
    """nodes per replica; above 1 they compute together, and the cluster needs LeaderWorkerSet"""
    gpus: int = Field(default=1, ge=0)
    """GPUs per replica, on each of its nodes"""
    weights: Quantity | None = Field(default=None, ge=1)
    """size of the weights; checked against the GPUs of a pool with a flavour; default: not checked"""
    memory: Quantity = Field(ge=GIB // 4)
    """memory limit per replica"""
    cpus: int = Field(ge=1)
    """CPUs per replica"""
    node_port: int | None = Field(default=None, ge=30000, le=32767)
    """port on every node; default: none (cluster only)"""
    max_model_len: int | None = Field(default=None, ge=1)
    """context length in tokens; default: the model's own"""
    adapters: bool = False
    """whether LoRA adapters published for it are served"""
    router: Router | None = None
    """keeps the requests of a session on one replica, behind the gateway; default: none"""


class FineTuning(Model):
    models: list[str] = Field(min_length=1)
    """which of services.models may be tuned"""
    pool: str
    """one of pools, in the cluster of the models; where runs go"""
    namespace: DnsLabel = "fine-tuning"
    """Kubernetes namespace of the runs"""
    gpus: int = Field(default=1, ge=0)
    """GPUs per run, of one node, each with a process of its own; 0 trains on CPU"""
    cpus: int = Field(ge=1)
    """CPUs per run"""
    memory: Quantity = Field(ge=GIB)
    """memory limit per run"""


class Amount(Model):
    cpus: int = Field(default=0, ge=0)
    memory: Quantity = Field(default=0, ge=0)
    gpus: int = Field(default=0, ge=0)


class BatchQueues(Model):
    pool: str
    """one of pools, in the cluster of the runs; where Kueue itself runs"""
    image: DnsLabel = "kueue"
    """images/containers/<name>"""
    quota: Amount
    """what all runs together may take of the pool they go to"""
    lend: Amount = Field(default_factory=Amount)
    """what runs may borrow beyond that, of what the models of that pool hold"""
    teams: list[DnsLabel] = Field(min_length=1)
    """each has a queue of its name: sitewright tune submit --queue <team>"""
    priorities: dict[DnsLabel, Priority] = Field(default_factory=dict)
    """name → value; a run of a higher one makes a lower one wait, one that names none has 0"""


class AliasTarget(Model):
    model: str
    """one of services.models"""
    adapter: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9.-]*--v[1-9][0-9]*$")
    """a published adapter of it, NAME--vN; default: the model itself"""
    weight: int = Field(default=1, ge=1, le=1000)
    """share of the requests, relative to the other targets"""


class GatewayAlias(Model):
    name: ModelName
    """model name that clients ask for"""
    targets: list[AliasTarget] = Field(min_length=1)
    """what answers; several with weights are a canary"""


class GatewayTeam(Model):
    name: DnsLabel
    """it gets a key: stack output gateway_keys"""
    models: list[str] | None = None
    """what it may ask for, of the models, aliases and collections; default: all"""
    requests_per_minute: Allowance | None = None
    """default, as of the others: no limit"""
    tokens_per_minute: Allowance | None = None
    """of questions and answers together"""
    parallel_requests: Allowance | None = None
    """open at once"""
    token_budget: Allowance | None = None
    """tokens in a budget_period"""
    budget_period: Period | None = None
    """45m, 12h or 30d; it begins with the first answer; default: 30d, with a token_budget"""

    @property
    def counted(self) -> bool:
        """Whether it has a limit per minute or at once."""
        return any((self.requests_per_minute, self.tokens_per_minute, self.parallel_requests))

    @model_validator(mode="after")
    def _a_period_of_something(self) -> "GatewayTeam":
        if self.budget_period is not None and self.token_budget is None:
            raise ValueError("budget_period says nothing without token_budget")
        return self


class GatewayDatabase(Model):
    addresses: list[HostPort] = Field(min_length=1)
    """IPv4 address:port of PostgreSQL with TLS; of several, it writes to the one that takes it"""
    name: SqlName = "llm_gateway"
    """of the database; the gateway makes its tables there"""
    user: SqlName = "llm_gateway"
    """owner of the database"""
    password_file: SitePath
    """of that user, mode 0600"""
    ca_file: SitePath
    """CA that signed the certificate of PostgreSQL"""


class Gateway(Model):
    cluster: str
    """one of clusters; all models served there are behind the gateway"""
    pool: str
    """one of pools, in that cluster; where the gateway runs"""
    environment: DnsLabel = "litellm"
    """images/environments/<name>"""
    image: DnsLabel
    """images/containers/<name>"""
    replicas: int = Field(default=2, ge=1)
    memory: Quantity = Field(default=GIB, ge=GIB // 2)
    """memory limit per replica"""
    node_port: int | None = Field(default=None, ge=30000, le=32767)
    """port on every node; default: none (cluster only)"""
    teams: list[
        Annotated[GatewayTeam, BeforeValidator(named, json_schema_input_type=DnsLabel | GatewayTeam)]
    ] = Field(default_factory=list)
    """each gets a key: stack output gateway_keys; a name alone is a team without limits"""
    store_image: DnsLabel = "redis"
    """images/containers/<name>; counts what teams use, and is made when one of them has a limit"""
    database: GatewayDatabase | None = None
    """keeps what teams use, and their budgets; default: none, and no team has a token_budget"""
    aliases: list[GatewayAlias] = Field(default_factory=list)
    """further model names; default: none"""

    @property
    def counted(self) -> bool:
        return any(team.counted for team in self.teams)


class Fabric(Model):
    resource: str = Field(default="beta.hpe.com/cxi", pattern=r"^[a-z0-9.-]+/[a-z0-9.-]+$")
    """of the device plugin"""
    cards: int = Field(default=4, ge=1)
    """network cards of one node"""
    namespace: DnsLabel = "kube-system"
    """of the NetworkAttachmentDefinitions"""
    networks: list[DnsLabel] = Field(default_factory=lambda: ["hsn0", "hsn1", "hsn2", "hsn3"])
    """NetworkAttachmentDefinitions of Multus, one per card"""
    environment: dict[str, str] = Field(default_factory=dict)
    """variables of NCCL and libfabric that are not as in modules/fabric/high_speed_net.py; "" leaves one out"""

    @model_validator(mode="after")
    def _one_network_per_card(self) -> "Fabric":
        if len(self.networks) != self.cards:
            raise ValueError(f"{self.cards} cards and {len(self.networks)} networks; each card has one")
        return self


class SloObjective(Model):
    model: str
    """one of services.models"""
    good: float = Field(default=0.999, gt=0, lt=1)
    """share of requests that end with an answer"""
    first_word_seconds: Annotated[float, AfterValidator(first_word_bound)] = 2.5
    """a request waits for its first word: 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40 or 80"""
    in_time: float = Field(default=0.95, gt=0, lt=1)
    """share of requests that wait no longer"""


class Slo(Model):
    cluster: str
    """one of clusters; all models served there are watched"""
    pool: str
    """one of pools, in that cluster; where Prometheus runs"""
    image: DnsLabel = "prometheus"
    """images/containers/<name>"""
    memory: Quantity = Field(default=GIB // 2, ge=GIB // 4)
    """memory limit; a quarter of it is for samples"""
    node_port: int | None = Field(default=None, ge=30000, le=32767)
    """port on every node; default: none (cluster only)"""
    objectives: list[SloObjective] = Field(default_factory=list)
    """of models for which the defaults are not right"""


class RetrievalCollection(Model):
    name: DnsLabel
    """directory below <shared>/retrieval"""
    model: str
    """one of services.models, in the cluster of the gateway; it answers"""
    alias: ModelName = Field(
        default_factory=lambda data: f"{data.get('model', 'model')}-with-{data.get('name', 'name')}",
        validate_default=True,
    )
    """model name that clients ask for; default: <model>-with-<name>"""
    top_k: int = Field(default=4, ge=1, le=20)
    """passages per question"""
    answer_tokens: int = Field(default=512, ge=1)
    """tokens kept for the answer where a request does not say max_tokens"""
    passage_length: int = Field(default=1000, ge=200, le=8000)
    """characters of a passage at most"""
    overlap: int = Field(default=150, ge=0, le=2000)
    """characters of a passage that the next one repeats at most"""

    @model_validator(mode="after")
    def _goes_on(self) -> "RetrievalCollection":
        if self.overlap > self.passage_length // 2:
            raise ValueError(
                f"overlap {self.overlap} is more than half of passage_length {self.passage_length}; "
                "passages would repeat each other"
            )
        return self


class Retrieval(Model):
    pool: str
    """one of pools, in the cluster of the gateway; where it runs"""
    environment: DnsLabel = "retrieval"
    """images/environments/<name>"""
    image: DnsLabel
    """images/containers/<name>"""
    replicas: int = Field(default=2, ge=1)
    memory: Quantity = Field(default=GIB // 2, ge=GIB // 4)
    """memory limit per replica"""
    embeddings: ModelName = "embeddings"
    """model name under which clients ask for embeddings"""
    collections: list[RetrievalCollection] = Field(default_factory=list)
    """documents that models answer from; default: none, embeddings only"""


class Services(Model):
    models: list[ServedModel] = Field(default_factory=list)
    gateway: Gateway | None = None
    """one address for all models of a cluster, with keys; default: none"""
    fine_tuning: FineTuning | None = None
    """fine-tuning runs; default: none"""
    fabric: Fabric | None = None
    """the Slingshot network, for models over several nodes; default: pods have it already"""
    slo: Slo | None = None
    """Prometheus that watches models, and calls when an objective is missed; default: none"""
    retrieval: Retrieval | None = None
    """embeddings, and models that look things up first; behind the gateway; default: none"""
    batch_queues: BatchQueues | None = None
    """queues for fine-tuning runs; default: none, each starts at once"""
