"""What Prometheus works out of vLLM's metrics, and when it calls for somebody."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from modules.slo import serving_slo_front as before
from modules.slo.serving_slo_form import BURNS, WINDOWS, burning, record, said
from modules.spec import Model
from sitewright.site.names import model_name
from sitewright.site.serving_values import first_word_bound
from sitewright.vllm_metrics import CACHE, FINISHED, FIRST_WORD, NEXT_WORD, REJECTED, RUNNING, STEPS, WAITING

STALL_SECONDS = 120
MISSING_FOR = "15m"  # a replica may take so long to load (startup_budget of a model)
DOWN_FOR = "2m"
REJECTED_SHARE = 0.05
MISSED = "model-misses-its-objective.md"


class Objective(Model):
    """What a site promises about one model."""

    model: Annotated[str, AfterValidator(model_name)] = Field(description="its served name")
    replicas: int = Field(ge=1, description="that should answer")
    good: float = Field(0.999, gt=0, lt=1, description="share of requests that end with an answer")
    first_word_seconds: Annotated[float, AfterValidator(first_word_bound)] = Field(
        2.5, description="a request waits for its first word"
    )
    in_time: float = Field(0.95, gt=0, lt=1, description="share of requests that wait no longer")


def rules(
    objectives: Iterable[Objective], gateway: str | None = None, routed: Iterable[str] = ()
) -> dict[str, Any]:
    """Prometheus' rule file. gateway, routed: as modules/slo/serving_slo_watched.py takes them."""
    objectives = tuple(objectives)
    return {
        "groups": [
            {"name": "models-recorded", "interval": "15s", "rules": [*_recorded(objectives)]},
            *(
                {"name": f"model-{one.model}", "interval": "15s", "rules": [*_alerts(one)]}
                for one in objectives
            ),
            *(
                {"name": f"router-{model}", "interval": "15s", "rules": [before.router_alert(model)]}
                for model in routed
            ),
            *([{"name": "gateway", "interval": "15s", "rules": before.gateway_rules()}] if gateway else []),
        ]
    }


def _recorded(objectives: tuple[Objective, ...]) -> Iterable[dict[str, str]]:
    for window in WINDOWS:
        yield record(f"model:requests_bad:ratio_rate{window}", _bad(window))
        for bound in sorted({one.first_word_seconds for one in objectives}):
            yield record(f"model:requests_late:ratio_rate{window}", _late(window, bound), bound)
    yield record("model:requests:rate5m", f"sum by (model_name) (rate({FINISHED.name}_total[5m]))")
    for share in (0.5, 0.95, 0.99):
        for name, metric in (("first_word", FIRST_WORD), ("next_word", NEXT_WORD)):
            counted = f"sum by (model_name, le) (rate({metric.name}_bucket[5m]))"
            yield record(
                f"model:{name}_seconds:p{share * 100:g}_5m", f"histogram_quantile({share}, {counted})"
            )
    yield record("model:requests_waiting:sum", f"sum by (model_name) ({WAITING.name})")
    yield record("model:kv_cache_used:max", f"max by (model_name) ({CACHE.name})")
    yield record("model:replicas_up:sum", 'sum by (model_name) (up{job="models"})')


def _bad(window: str) -> str:
    """Share of the requests that ended without an answer: aborted, or by an error of the engine."""
    of_model = f"sum by (model_name) (rate({FINISHED.name}_total%s[{window}]))"
    bad = of_model % '{finished_reason=~"abort|error"}'
    return f"{bad} / ({of_model % ''} > 0)"


def _late(window: str, bound: float) -> str:
    # As vLLM writes it: 1.0, not 1.
    in_time = f'sum by (model_name) (rate({FIRST_WORD.name}_bucket{{le="{float(bound)}"}}[{window}]))'
    return f"1 - {in_time} / (sum by (model_name) (rate({FIRST_WORD.name}_count[{window}])) > 0)"


def _alerts(of: Objective) -> Iterable[dict[str, Any]]:
    name = f'model_name="{of.model}"'
    for burn in BURNS:
        yield burning(
            "ModelLosesRequests",
            burn,
            f"model:requests_bad:ratio_rate%s{{{name}}} > {burn.times * (1 - of.good):.6g}",
            f"{of.model}: requests end without an answer, {burn.times:g} times more than {of.good:.3%} good ones allow",
            MISSED,
        )
        yield burning(
            "ModelAnswersLate",
            burn,
            f'model:requests_late:ratio_rate%s{{{name},within="{of.first_word_seconds:g}"}} > '
            f"{min(burn.times * (1 - of.in_time), 0.99):.6g}",
            f"{of.model}: too many requests wait longer than {of.first_word_seconds:g} s for their first word",
            MISSED,
        )
    # Of a model that is gone there is no series, and none must count as 0.
    up = f'(sum(up{{job="models",{name}}}) or vector(0))'
    yield {
        "alert": "ModelDown",
        "expr": f"{up} == 0",
        "for": DOWN_FOR,
        **said("page", f"{of.model}: no replica answers", "replica-missing.md"),
    }
    yield {
        "alert": "ModelReplicaMissing",
        "expr": f"{up} < {of.replicas}",
        "for": MISSING_FOR,
        **said(
            "ticket", f"{of.model}: {{{{ $value }}}} of {of.replicas} replicas answer", "replica-missing.md"
        ),
    }
    rejected = f"sum by (model_name) (rate({REJECTED.name}_total{{{name}}}[5m]))"
    ended = f"sum by (model_name) (rate({FINISHED.name}_total{{{name}}}[5m]))"
    yield {
        "alert": "ModelRejectsRequests",
        "expr": f"{rejected} / ({rejected} + {ended} > 0) > {REJECTED_SHARE}",
        "for": "10m",
        **said(
            "ticket",
            f"{of.model}: more requests than its replicas take, some get 503",
            MISSED,
        ),
    }
    # A long prompt fills the cache for minutes before its first step ends.
    window = f"{{{name}}}[{STALL_SECONDS}s]"
    progress = f"(increase({STEPS.name}_count{window}) + changes({CACHE.name}{window}))"
    yield {
        "alert": "ModelEngineStalled",
        "expr": f"{RUNNING.name}{{{name}}} > 0 and on (instance) {progress} == 0",
        "for": "30s",
        **said(
            "page",
            f"{of.model}: replica {{{{ $labels.instance }}}} has requests and does nothing",
            "engine-hangs.md",
        ),
    }
