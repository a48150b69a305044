"""The recipe of a fine-tuning run: what a researcher chooses, checked before anything is submitted.

    method: lora              # tune an adapter beside the model; `full` tunes every weight
    steps: 200                # or epochs: 3, never both
    learning_rate: 2e-4
    batch_size: 4             # rows per device and step
    max_length: 2048          # tokens per row
    lora: {rank: 16}

The same model, as JSON, is `recipe` in a run's request.json.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from sitewright.site.fields import Model
from sitewright.site.messages import explain
from sitewright.site.problems import Problem, SiteFileError
from sitewright.site.source import parse

MAX_RANK = 64
"""What the serving side runs: `--max-lora-rank 64` of `modules/inference/vllm_pod.py`."""

NOT_OFFERED = {
    "modules_to_save": "vLLM does not load an adapter with whole modules in it; "
    "name the layers under target_modules, or use method: full",
    "rank_pattern": f"one layer above rank {MAX_RANK} and the served adapter fails at its load, however small "
    "`rank` is (gpustack issue 5438); give every layer the same rank",
    "alpha_pattern": "give every layer the same alpha",
    "use_dora": "vLLM does not load DoRA adapters; leave it out",
    "max_steps": "here it is steps",
    "num_train_epochs": "here it is epochs",
    "per_device_train_batch_size": "here it is batch_size",
    "r": "here it is rank",
    "lora_alpha": "here it is alpha",
    "lora_dropout": "here it is dropout",
    "bf16": "here it is precision: bf16",
}
"""Keys of transformers and peft that a recipe does not take, and why."""

_HINT = "Nothing was submitted. Mend the recipe and try again."

Steps = Annotated[int, Field(ge=1)]
Epochs = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class Lora(Model):
    """The shape of a LoRA adapter."""

    rank: int = 16
    """size of the adapter: a power of two, at most 64, which is what the serving side loads"""
    alpha: int = Field(32, ge=1, le=1024)
    """strength: the adapter's output is scaled by alpha / rank"""
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | list[str] = "all-linear"
    """layers that get an adapter, as the model names them, for example [q_proj, v_proj]"""

    @field_validator("rank")
    @classmethod
    def _can_be_served(cls, rank: int) -> int:
        """vLLM reserves room for a few ranks only, so that 24 costs what 32 does (gpustack issue 5438)."""
        if rank > MAX_RANK:
            raise ValueError(f"rank {rank} cannot be served: models run with --max-lora-rank {MAX_RANK}")
        if rank < 1 or rank & (rank - 1):
            near = 1 << max(rank - 1, 0).bit_length()
            raise ValueError(
                f"rank {rank} is no power of two; the server would reserve room for {near}, so take {near}"
            )
        return rank

    @field_validator("target_modules", mode="before")
    @classmethod
    def _names_modules(cls, modules: Any) -> Any:
        if modules == "all-linear":
            return modules
        if isinstance(modules, str):
            raise ValueError(f"{str(modules)!r} alone; write all-linear, or a list: [{modules}]")
        names = modules if isinstance(modules, list) else [modules]
        if not names:
            raise ValueError("the list is empty; write all-linear, or name one layer at least")
        if names is not modules or not all(isinstance(name, str) and name.strip() for name in names):
            raise ValueError(
                "all-linear or a list of names of layers is wanted, for example [q_proj, v_proj]"
            )
        if "lm_head" in names:
            raise ValueError(
                "lm_head would not be trained (trl takes the loss from that layer's own weights); leave it out"
            )
        twice = sorted({str(name) for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: there twice")
        return modules


class Recipe(Model):
    """What is trained, for how long, and how."""

    method: Literal["lora", "full"]
    """lora: an adapter beside the model, a thousandth of its size; full: every weight"""
    steps: Steps | None = None
    """how many updates of the weights; this or epochs"""
    epochs: Annotated[Epochs | None, Field(validate_default=True)] = None
    """how often the data set is gone through; this or steps"""
    learning_rate: float = Field(ge=1e-7, le=1e-2)
    """usual are 1e-4 to 5e-4 for lora and 5e-6 to 5e-5 for full"""
    batch_size: int = Field(ge=1, le=4096)
    """rows per device and step"""
    gradient_accumulation: int = Field(1, ge=1, le=4096)
    """batches per update of the weights: the same effect as a larger batch, without its memory"""
    max_length: int = Field(ge=8, le=1_048_576)
    """tokens per row; a longer row would be cut off"""
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    """share of the steps in which the learning rate rises"""
    weight_decay: float = Field(0.0, ge=0, le=1)
    seed: int = Field(42, ge=0, le=2**32 - 1)
    """of the order of the rows and of a new adapter's weights"""
    precision: Literal["bf16", "fp32"] = "bf16"
    gradient_checkpointing: bool = False
    """compute parts of the model twice instead of keeping them: longer rows fit, and a step takes a third longer"""
    save_steps: int = Field(50, ge=1)
    """steps from one checkpoint to the next: what a run that is stopped may lose"""
    logging_steps: int = Field(1, ge=1)
    lora: Annotated[Lora | None, Field(validate_default=True)] = None
    """the adapter, with method: lora only"""

    @field_validator("epochs")
    @classmethod
    def _exactly_one_length(cls, epochs: float | None, info: ValidationInfo) -> float | None:
        if "steps" not in info.data:
            return epochs
        if epochs is None and info.data["steps"] is None:
            raise ValueError("neither steps nor epochs is given; exactly one of them is wanted")
        if epochs is not None and info.data["steps"] is not None:
            raise ValueError("steps and epochs are both given; exactly one of them is wanted")
        return epochs

    @field_validator("lora")
    @classmethod
    def _adapter_follows_the_method(cls, lora: Lora | None, info: ValidationInfo) -> Lora | None:
        method = info.data.get("method")
        if lora is not None and method == "full":
            raise ValueError(
                "method: full tunes every weight and has no adapter; leave lora out, or use method: lora"
            )
        return Lora() if lora is None and method == "lora" else lora


def load(path: Path) -> Recipe:
    """The recipe of a YAML file, with its defaults filled in.

    Raises: SiteFileError with every problem as FILE:LINE:COLUMN: KEY: what is wrong and what would be right.
    """
    problems: list[Problem] = []
    tree = parse(path, problems)
    if tree is None or problems:
        raise SiteFileError(problems, _HINT)
    try:
        return Recipe.model_validate(tree.plain())
    except ValidationError as error:
        for fault in error.errors():
            loc = tuple(fault["loc"])
            problems.append(Problem(tree.find(loc)[0], loc, explain(fault, Recipe, NOT_OFFERED)))
        raise SiteFileError(problems, _HINT) from None
