"""What a site may say about the queues of its fine-tuning runs."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from modules.spec import DNS_LABEL, GIBI, MEBI, TAINT, Model, quantity
from sitewright.tuning.template import CPU, GPU, MEMORY

COVERED = (CPU, MEMORY, GPU)
"""What the queues count. A run that requests anything else is admitted by none of them, ever (kueue#4848)."""

Taints = tuple[Annotated[str, Field(pattern=TAINT)], ...]


class Quota(Model):
    """An amount of each resource that is counted."""

    cpus: int = Field(0, ge=0)
    memory: int = Field(0, ge=0, description="bytes")
    gpus: int = Field(0, ge=0)

    @property
    def quantities(self) -> dict[str, str]:
        """As Kubernetes writes them, by the names of COVERED."""
        return {CPU: str(self.cpus), MEMORY: quantity(self.memory), GPU: str(self.gpus)}


class Flavor(Model):
    """The nodes of one pool, and how they are shared between serving and fine-tuning."""

    pool: str = Field(pattern=DNS_LABEL)
    taints: Taints = Field((), description="of the pool's nodes")
    guaranteed: Quota = Field(Quota(), description="what served models hold, whether they use it or not")
    lendable: Quota = Field(Quota(), description="what of `guaranteed` runs may borrow")
    fine_tuning: Quota = Field(description="what runs get in any case, all teams together")

    @model_validator(mode="after")
    def _no_more_is_lent_than_there_is(self) -> Self:
        for resource in Quota.model_fields:
            lent, held = getattr(self.lendable, resource), getattr(self.guaranteed, resource)
            if lent > held:
                raise ValueError(
                    f"lendable: {resource} {lent} are more than the {held} that models hold in pool {self.pool}"
                )
        return self


class BatchQueuesSpec(Model):
    image: str = Field(description="container image of Kueue by digest")
    pool: str = Field(pattern=DNS_LABEL, description="pool whose nodes may run Kueue itself")
    taints: Taints = Field((), description="of that pool's nodes")
    memory: int = Field(GIBI // 2, ge=128 * MEBI, description="bytes, limit of Kueue itself")
    namespace: str = Field("fine-tuning", pattern=DNS_LABEL, description="of the runs; it must be there")
    flavors: tuple[Flavor, ...] = Field(min_length=1, description="pools that runs go to, the best first")
    teams: tuple[Annotated[str, Field(pattern=DNS_LABEL)], ...] = Field(
        min_length=1, description="each has a queue of its name in the namespace"
    )
    priorities: dict[Annotated[str, Field(pattern=DNS_LABEL)], int] = Field(
        default_factory=dict, description="name → value; a run that names none has 0"
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for what, names in (("teams", self.teams), ("flavors", tuple(f.pool for f in self.flavors))):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what}: {', '.join(twice)} is there twice")
        return self
