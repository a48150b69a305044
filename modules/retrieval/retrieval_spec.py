"""What a site may say about retrieval: which collections there are, and which model answers with the help of each."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from modules.gateway.llm_gateway_spec import API_BASE, MODEL_NAME, Target
from modules.spec import DNS_LABEL, MEBI, TAINT, Model
from sitewright.site.names import model_name


class RetrievalModel(Model):
    """A name that clients ask for: passages of a collection go into the question, and a model answers."""

    name: str = Field(pattern=MODEL_NAME, description="what clients ask for, such as tiny-with-manuals")
    collection: str = Field(pattern=DNS_LABEL, description="directory below <shared>/retrieval")
    model: str = Field(pattern=MODEL_NAME, description="name of the model that answers")
    api_base: str = Field(
        pattern=API_BASE, description="where it does: http://<service>.<namespace>.svc:<port>/v1"
    )
    top_k: int = Field(4, ge=1, le=20, description="passages per question")
    answer_tokens: int = Field(
        512, ge=1, description="kept for the answer when a request does not say max_tokens"
    )

    @property
    def target(self) -> Target:
        return Target(api_base=self.api_base)

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        _ = self.target
        return self


class RetrievalSpec(Model):
    name: Annotated[str, AfterValidator(model_name)] = Field(
        "retrieval", description="DNS name of the service"
    )
    namespace: str = Field("default", pattern=DNS_LABEL)
    image: str = Field(description="container image by digest")
    python: str = Field(description="interpreter of the software environment, as a node sees it")
    shared_path: str = Field("/shared", description="shared file system, mounted read-only")
    pool: str = Field(pattern=DNS_LABEL, description="pool whose nodes may run it")
    taints: tuple[Annotated[str, Field(pattern=TAINT)], ...] = Field((), description="of the pool's nodes")
    replicas: int = Field(2, ge=1)
    memory: int = Field(512 * MEBI, ge=256 * MEBI, description="bytes, limit per replica; 130 MiB when idle")
    gateway: str = Field("llm-gateway", pattern=DNS_LABEL, description="whose pods alone may ask it")
    embeddings: str = Field("embeddings", pattern=MODEL_NAME, description="name of the embedding model")
    models: tuple[RetrievalModel, ...] = Field((), description="what else clients may ask for")
    drain_timeout: int = Field(600, ge=1, description="seconds a stream may take to end")

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [self.embeddings, *(model.name for model in self.models)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"models: {', '.join(twice)} is there twice; give each a name of its own")
        return self
