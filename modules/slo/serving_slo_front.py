"""Rules about what stands before the models: the gateway, where users see failures no model saw, and the routers."""

from typing import Any

from modules.slo.serving_slo_form import BURNS, WINDOWS, burning, record, said
from modules.slo.serving_slo_watched import GATEWAYS, MODELS, ROUTERS

GOOD = 0.999  # of the requests that were in order end with a whole answer
# modules/gateway/llm_gateway_metrics.py
REQUESTS, OUTCOMES = "llm_gateway_requests_total", "llm_gateway_outcomes_total"
BAD, NOT_OURS = "failed|cut|overloaded", "refused|limited|left"
RUNBOOK = "gateway-loses-requests.md"
BEHIND, BEHIND_SECONDS = "llm_gateway_usage_behind_seconds", 300  # twice a second where all is well


def gateway_rules() -> list[dict[str, Any]]:
    return [
        *(record(f"gateway:requests_bad:ratio_rate{window}", _bad(window)) for window in WINDOWS),
        record("gateway:requests:rate5m", f"sum by (team, model, outcome) (rate({REQUESTS}[5m]))"),
        record(
            "gateway:first_byte_seconds:p95_5m",
            "histogram_quantile(0.95, sum by (model, le) (rate(llm_gateway_first_byte_seconds_bucket[5m])))",
        ),
        *(
            burning(
                "GatewayLosesRequests",
                burn,
                f"gateway:requests_bad:ratio_rate%s > {burn.times * (1 - GOOD):.6g}",
                f"requests get no whole answer, {burn.times:g} times more than {GOOD:.3%} good ones allow",
                RUNBOOK,
            )
            for burn in BURNS
        ),
        {
            "alert": "GatewayDown",
            "expr": f'(sum(up{{job="{GATEWAYS}"}}) or vector(0)) == 0',
            "for": "2m",
            **said("page", "no replica of the gateway answers: users reach no model", RUNBOOK),
        },
        {
            "alert": "GatewayKeepsUsage",
            "expr": f"max({BEHIND}) > {BEHIND_SECONDS}",
            "for": "1m",
            **said(
                "ticket",
                "the gateway's database takes nothing: budgets of teams hold by what each replica knows",
                "team-is-refused.md",
            ),
        },
    ]


def router_alert(model: str) -> dict[str, Any]:
    """A router that counts other replicas than there are sends requests to nobody, or spares one for ever."""
    name = f'model_name="{model}"'
    answering = f'scalar(sum(up{{job="{MODELS}",{name}}}))'
    return {
        "alert": "RouterDisagrees",
        "expr": f'vllm_router_active_workers{{job="{ROUTERS}",{name}}} != {answering}',
        "for": "10m",
        **said(
            "ticket",
            f"{model}: router {{{{ $labels.instance }}}} knows {{{{ $value }}}} replicas, others answer",
            "replica-missing.md",
        ),
    }


def _bad(window: str) -> str:
    """Share of the requests in order that got no whole answer."""
    bad = f'sum(rate({OUTCOMES}{{outcome=~"{BAD}"}}[{window}])) or vector(0)'
    return f'({bad}) / (sum(rate({OUTCOMES}{{outcome!~"{NOT_OURS}"}}[{window}])) > 0)'
