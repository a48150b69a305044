"""What a site may say about its gateway, and which names in it must fit together."""

from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from modules.inference.serving import pods_of
from modules.spec import DNS_LABEL, DNS_SUBDOMAIN, GIBI, MEBI, TAINT, Model
from sitewright.site.names import model_name, sql_name

NAME = COMPONENT = "llm-gateway"  # the second is a label of its pods
MODEL_NAME = r"^[A-Za-z0-9][-A-Za-z0-9._/]{0,127}$"
TEAM_NAME = r"^[A-Za-z0-9][-A-Za-z0-9_.]{0,126}$"  # also the name of an entry of a Secret
MOST = 10**12  # Redis counts in 64 bits, and its Lua exactly up to 2**53
YEAR = 365 * 24 * 3600
ADDRESS = r"^[0-9.]+:[0-9]{1,5}$"
API_BASE = r"^https?://[^/\s]+(/[^/\s]+)*/v1$"  # LiteLLM appends /chat/completions to it


class Target(Model):
    """Where a model is served. One entry for each pod lets a pod rest; one for a Service lets the model rest."""

    api_base: str = Field(
        pattern=API_BASE, description="http://<service>.<namespace>.svc:<port>/v1, or an address"
    )
    served_name: str | None = Field(
        None, pattern=MODEL_NAME, description="its name there. Default: the model's"
    )
    weight: int = Field(1, ge=1, le=1000, description="share of requests, relative to the other targets")
    component: str = Field("vllm", pattern=DNS_LABEL, description="what its pods are, by their label")

    @property
    def host(self) -> str:
        return urlsplit(self.api_base).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.api_base)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def address(self) -> IPv4Address | None:
        try:
            return IPv4Address(self.host)
        except ValueError:
            return None

    @property
    def service(self) -> tuple[str, str] | None:
        """Name and namespace of the Service; of `<pod>.<service>.<namespace>.svc` too."""
        labels = self.host.removesuffix(".cluster.local").split(".")
        return (labels[-3], labels[-2]) if len(labels) in (3, 4) and labels[-1] == "svc" else None

    @property
    def peer(self) -> dict[str, Any]:
        """It as a network policy names it."""
        if self.address:
            return {"ipBlock": {"cidr": f"{self.address}/32"}}
        assert self.service  # one of the two, says the model
        name, namespace = self.service
        return pods_of(
            namespace, {"app.kubernetes.io/name": name, "app.kubernetes.io/component": self.component}
        )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if not self.address and not self.service:
            raise ValueError(
                f"api_base: {self.host} is neither <service>.<namespace>.svc nor an IPv4 address; "
                "the gateway reaches nothing else, since a network policy cannot name it"
            )
        return self


class GatewayModel(Model):
    name: str = Field(pattern=MODEL_NAME, description="what clients ask for")
    targets: tuple[Target, ...] = Field(min_length=1)
    fallbacks: tuple[str, ...] = Field(
        (), description="models that answer when no target of this one does, in this order"
    )


class Team(Model):
    name: str = Field(pattern=TEAM_NAME, description="entry of the Secret with keys")
    models: tuple[str, ...] | None = Field(
        None, description="what it may ask for; fallbacks follow the model. Default: default_models"
    )
    requests_per_minute: int | None = Field(None, ge=1, le=MOST, description="after as many at once")
    tokens_per_minute: int | None = Field(
        None, ge=1, le=MOST, description="of questions and answers; counted when an answer ends"
    )
    parallel_requests: int | None = Field(None, ge=1, le=MOST, description="open at once")
    token_budget: int | None = Field(None, ge=1, le=MOST, description="tokens in a period")
    budget_seconds: int | None = Field(
        None, ge=1, le=10 * YEAR, description="of a period; it begins with the first answer that is counted"
    )

    @property
    def limits(self) -> dict[str, int]:
        """Those that are set, by name; the period of a budget is one of them."""
        return self.model_dump(exclude={"name", "models"}, exclude_none=True)

    @property
    def counted(self) -> bool:
        return any((self.requests_per_minute, self.tokens_per_minute, self.parallel_requests))

    @model_validator(mode="after")
    def _a_budget_has_a_period(self) -> Self:
        if (self.token_budget is None) != (self.budget_seconds is None):
            raise ValueError("token_budget and budget_seconds: one says nothing without the other")
        return self

    @model_validator(mode="after")
    def _not_a_second_key(self) -> Self:
        if self.name.endswith(".next"):
            raise ValueError(
                f"name: {self.name} would be the second key of {self.name.removesuffix('.next')}"
            )
        return self


class Database(Model):
    """PostgreSQL of the site. The gateway makes its tables there, in a schema of its own."""

    addresses: tuple[Annotated[str, Field(pattern=ADDRESS)], ...] = Field(
        min_length=1, description="<IPv4 address>:<port>; of several, it writes to the one that takes it"
    )
    name: Annotated[str, AfterValidator(sql_name)] = "llm_gateway"
    user: Annotated[str, AfterValidator(sql_name)] = Field("llm_gateway", description="owner of the database")

    @property
    def peers(self) -> list[tuple[str, int]]:
        """Address and port of each."""
        return [
            (str(IPv4Address(host)), int(port))
            for host, _, port in (one.rpartition(":") for one in self.addresses)
        ]

    @model_validator(mode="after")
    def _addresses_exist(self) -> Self:
        for address, (_, port) in zip(self.addresses, self.peers, strict=True):
            if not 1 <= port <= 65535:
                raise ValueError(f"addresses: {address} has no port")
        return self


class LlmGatewaySpec(Model):
    name: Annotated[str, AfterValidator(model_name)] = Field(NAME, description="DNS name of the service")
    namespace: str = Field("default", pattern=DNS_LABEL)
    image: str = Field(description="container image by digest")
    python: str = Field(description="interpreter of the software environment, as a node sees it")
    shared_path: str = Field("/shared", description="shared file system, mounted read-only")
    pool: str = Field(pattern=DNS_LABEL, description="pool whose nodes may run it")
    taints: tuple[Annotated[str, Field(pattern=TAINT)], ...] = Field((), description="of the pool's nodes")
    replicas: int = Field(2, ge=1)
    memory: int = Field(GIBI, ge=512 * MEBI, description="bytes, limit per replica; 380 MiB when idle")
    models: tuple[GatewayModel, ...] = Field(min_length=1, description="what clients may ask for")
    teams: tuple[Team, ...] = Field((), description="teams that may ask for some models only")
    default_models: tuple[str, ...] | None = Field(
        None, description="models of a team not named in `teams`. Default: all"
    )
    database: Database | None = Field(
        None, description="keeps what teams use, and their budgets. Default: none, and no team has a budget"
    )
    active_keys: str = Field("", description="Secret with keys. Default: <name>-keys-active")
    blocked_keys: str = Field("", description="Secret with blocked keys. Default: <name>-keys-blocked")
    upstream_key: str | None = Field(
        None, pattern=DNS_SUBDOMAIN, description="Secret whose entry `key` the targets are asked with"
    )
    node_port: int | None = Field(None, ge=30000, le=32767)
    clients: tuple[IPv4Network, ...] = Field((), description="who may ask, beside pods of the namespace")
    total_seconds: int = Field(3600, ge=1, description="an answer may take")
    stall_seconds: int = Field(300, ge=1, description="a stream may be silent")
    drain_timeout: int = Field(600, ge=1, description="seconds a stream may take to end")
    max_open: int = Field(512, ge=1, description="requests open at once per replica; more get 503")
    max_body: int = Field(16 * MEBI, ge=1024, description="bytes of a request; longer ones get 413")

    @property
    def active_secret(self) -> str:
        return self.active_keys or f"{self.name}-keys-active"

    @property
    def blocked_secret(self) -> str:
        return self.blocked_keys or f"{self.name}-keys-blocked"

    @property
    def labels(self) -> dict[str, str]:
        """Of its pods."""
        return {"app.kubernetes.io/name": self.name, "app.kubernetes.io/component": COMPONENT}

    @property
    def limited(self) -> bool:
        """Whether a team has a limit per minute or at once, so that the replicas count in one store."""
        return any(team.counted for team in self.teams)

    @property
    def store(self) -> str:
        """Service with the store, and Secret with its password (modules/gateway/llm_gateway_store.py)."""
        return f"{self.name}-store"

    @property
    def database_secret(self) -> str:
        """Secret with the database's `password`, and the `ca.crt` that signed its certificate."""
        return f"{self.name}-database"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = _problems(self.models, self.teams, self.default_models)
        if self.database is None:
            found += [
                f"teams: {team.name}: token_budget: budgets are kept in a database, and none is given"
                for team in self.teams
                if team.token_budget
            ]
        if self.stall_seconds > self.total_seconds:
            found.append(f"stall_seconds: {self.stall_seconds} is above total_seconds {self.total_seconds}")
        if self.active_secret == self.blocked_secret:
            found.append(
                f"blocked_keys: {self.blocked_secret} also holds the active keys; name another Secret"
            )
        if found:
            raise ValueError("; ".join(found))
        return self


def _problems(
    models: Iterable[GatewayModel], teams: Iterable[Team], default: Iterable[str] | None
) -> list[str]:
    """Names that stand for nothing or for two things."""
    models, teams = tuple(models), tuple(teams)
    known = {model.name for model in models}
    there = ", ".join(sorted(known))
    used = [(f"models: {model.name}: fallbacks", name) for model in models for name in model.fallbacks]
    used += [(f"teams: {team.name}: models", name) for team in teams for name in team.models or ()]
    used += [("default_models", name) for name in default or ()]
    found = [f"{where}: no model {name}; there is {there}" for where, name in used if name not in known]
    found += [
        f"models: {model.name}: it is its own fallback" for model in models if model.name in model.fallbacks
    ]
    found += [f"models: {name} is there twice" for name in _repeated(model.name for model in models)]
    return found + [f"teams: {name} is there twice" for name in _repeated(team.name for team in teams)]


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]
