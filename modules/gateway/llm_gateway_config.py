"""What LiteLLM is told: its config file, in the form it understands and no other.

LiteLLM takes a wrong key in silence and fails at the first request, far from the cause (issues 2322, 5183), so what
is written goes through the models below first.
"""

import json
from collections.abc import Iterable
from typing import Any

import yaml
from pydantic import Field

from modules.gateway.llm_gateway_spec import API_BASE, MODEL_NAME, GatewayModel, Target, Team
from modules.spec import Model

RETRIES = 2  # of a target that is alone; LiteLLM waits 1 to 3 s before each
ALLOWED_FAILS = 3  # within a minute, before a target rests
COOLDOWN_SECONDS = 15
UPSTREAM_KEY = "UPSTREAM_KEY"  # variable with the key that targets are asked with


class LitellmParams(Model):
    """Of one deployment. `openai/` or `hosted_vllm/`, since `vllm/` makes LiteLLM import vLLM itself."""

    model: str = Field(pattern=r"^(hosted_vllm|openai)/\S+$")
    api_base: str = Field(pattern=API_BASE)
    api_key: str = Field(pattern=r"^os\.environ/[A-Z][A-Z0-9_]*$", description="never the key itself")
    timeout: int = Field(ge=1)
    stream_timeout: int = Field(ge=1)
    weight: int = Field(1, ge=1)


class LitellmModel(Model):
    model_name: str = Field(pattern=MODEL_NAME)
    litellm_params: LitellmParams


class LitellmConfig(Model):
    model_list: tuple[LitellmModel, ...] = Field(min_length=1)
    router_settings: dict[str, Any] = Field(default_factory=dict)
    general_settings: dict[str, Any] = Field(default_factory=dict)
    litellm_settings: dict[str, Any] = Field(default_factory=dict)


def config(models: Iterable[GatewayModel], total: int, stall: int) -> str:
    """LiteLLM's config file. total: seconds an answer may take; stall: seconds a stream may be silent."""
    models = tuple(models)
    made = LitellmConfig(
        model_list=tuple(
            _deployment(model, target, total, stall) for model in models for target in model.targets
        ),
        router_settings={
            "routing_strategy": "simple-shuffle",
            # A retry goes to a target that has not failed this request; a plain one may draw the same again.
            "enable_weighted_failover": True,
            "num_retries": RETRIES,
            "retry_after": 0,
            "allowed_fails": ALLOWED_FAILS,
            "cooldown_time": COOLDOWN_SECONDS,
            "fallbacks": [{model.name: list(model.fallbacks)} for model in models if model.fallbacks],
        },
        general_settings={
            "custom_auth": "llm_gateway_auth.user_api_key_auth",
            "store_model_in_db": False,
            # They send real prompts to every target.
            "background_health_checks": False,
            "cancel_on_disconnect": True,
        },
        litellm_settings={"turn_off_message_logging": True, "drop_params": False, "telemetry": False},
    )
    return yaml.safe_dump(made.model_dump(mode="json"), sort_keys=False)


def policy(models: Iterable[GatewayModel], teams: Iterable[Team], default: Iterable[str] | None) -> str:
    """What the hooks read. default: models of teams that name none; None for all."""
    names = [model.name for model in models]
    teams = tuple(teams)
    made = {
        "default": names if default is None else list(default),
        "teams": {team.name: list(team.models) for team in teams if team.models is not None},
        "limits": {team.name: team.limits for team in teams if team.limits},
    }
    return json.dumps(made, indent=2)


def _deployment(model: GatewayModel, target: Target, total: int, stall: int) -> LitellmModel:
    return LitellmModel(
        model_name=model.name,
        litellm_params=LitellmParams(
            model=f"hosted_vllm/{target.served_name or model.name}",
            api_base=target.api_base,
            api_key=f"os.environ/{UPSTREAM_KEY}",
            timeout=total,
            stream_timeout=stall,
            weight=target.weight,
        ),
    )
