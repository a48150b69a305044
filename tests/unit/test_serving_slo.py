"""Rules as Prometheus itself understands them: each alert with numbers at which it fires, and at which it does not."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from modules.slo.serving_slo import ServingSloSpec, config, render, render_for_operator
from modules.slo.serving_slo_form import RUNBOOKS
from modules.slo.serving_slo_rules import Objective, rules
from sitewright.vllm_metrics import METRICS
from tests.unit.golden import cases, check

REPOSITORY = Path(__file__).parents[2]
TINY = Objective(model="tiny", replicas=2)
TINYS = rules([TINY])["groups"]
FRONT = [group for group in rules([TINY], "llm-gateway", ["tiny"])["groups"] if group not in TINYS]


def spec(**more) -> ServingSloSpec:
    given = {"image": "i@sha256:1", "pool": "gpu", "objectives": [TINY.model_dump()]}
    return ServingSloSpec.model_validate({**given, **more})


def promtool(*arguments: object) -> str:
    assert shutil.which("promtool"), "install the package prometheus (images/lab-packages.txt)"
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("case", cases("serving_slo"), ids=lambda path: path.name)
def test_rendered_manifests_are_the_recorded_ones(case):
    given = ServingSloSpec.model_validate(yaml.safe_load((case / "spec.yaml").read_text()))
    check(case / "manifests.yaml", yaml.safe_dump_all(render(given), sort_keys=False, width=1000))
    operator = yaml.safe_dump_all(render_for_operator(given), sort_keys=False, width=1000)
    check(case / "operator.yaml", operator)


def test_prometheus_accepts_its_settings_and_the_rules(tmp_path):
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": TINYS + FRONT}))
    settings = config(spec(gateway="llm-gateway", routed=["tiny"])) | {
        "rule_files": [str(tmp_path / "rules.yml")]
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(settings))
    assert "SUCCESS" in promtool("check", "config", tmp_path / "prometheus.yml")


def finished(reason: str, values: str) -> dict[str, str]:
    labels = f'model_name="tiny",finished_reason="{reason}"'
    return {"series": f"vllm:request_success_total{{{labels}}}", "values": values}


def rejected(values: str) -> dict[str, str]:
    return {
        "series": 'vllm:admission_rejections_total{model_name="tiny",reason="num_reqs"}',
        "values": values,
    }


def first_words(bound: str, values: str) -> dict[str, str]:
    return {
        "series": f'vllm:time_to_first_token_seconds_bucket{{model_name="tiny",le="{bound}"}}',
        "values": values,
    }


def waited(in_time: str, all_of_them: str) -> list[dict[str, str]]:
    count = {"series": 'vllm:time_to_first_token_seconds_count{model_name="tiny"}', "values": all_of_them}
    return [first_words("2.5", in_time), first_words("+Inf", all_of_them), count]


def up(*values: str) -> list[dict[str, str]]:
    return [
        {"series": f'up{{job="models",model_name="tiny",instance="10.0.0.{place}:8000"}}', "values": one}
        for place, one in enumerate(values)
    ]


def engine(running: str, steps: str, cache: str = "0.5x400") -> list[dict[str, str]]:
    labels = '{model_name="tiny",instance="10.0.0.0:8000",engine="0"}'
    return [
        {"series": f"vllm:num_requests_running{labels}", "values": running},
        {"series": f"vllm:kv_cache_usage_perc{labels}", "values": cache},
        {"series": f"vllm:iteration_tokens_total_count{labels}", "values": steps},
    ]


HEALTHY = up("1x400", "1x400")
# What is measured once a minute, and which alerts fire after two hours.
SITUATIONS = {
    "all is well": (
        [
            *HEALTHY,
            finished("stop", "0+600x400"),
            *waited("0+600x400", "0+600x400"),
            *engine("1x400", "0+60x400"),
        ],
        set(),
    ),
    "one request in a hundred is aborted": (
        [*HEALTHY, finished("stop", "0+990x400"), finished("abort", "0+10x400")],
        {"ModelLosesRequests/ticket"},
    ),
    "one request in ten ends by an error": (
        [*HEALTHY, finished("stop", "0+90x400"), finished("error", "0+10x400")],
        {"ModelLosesRequests/page", "ModelLosesRequests/ticket"},
    ),
    "errors that were over an hour ago": (
        [*HEALTHY, finished("stop", "0+90x400"), finished("error", "0+10x30 300x370")],
        set(),
    ),
    "half of the requests wait too long": (
        [*HEALTHY, *waited("0+50x400", "0+100x400")],
        {"ModelAnswersLate/ticket"},
    ),
    "all requests wait too long": (
        [*HEALTHY, *waited("0x400", "0+100x400")],
        {"ModelAnswersLate/page", "ModelAnswersLate/ticket"},
    ),
    "one of two replicas does not answer": (up("1x400", "0x400"), {"ModelReplicaMissing/ticket"}),
    "no replica is there": ([], {"ModelReplicaMissing/ticket", "ModelDown/page"}),
    "a replica loads": (up("1x400", "1x108 0x20"), set()),
    "one request of ten meets a full queue": (
        [*HEALTHY, finished("stop", "0+90x400"), rejected("0+10x400")],
        {"ModelRejectsRequests/ticket"},
    ),
    "one of a hundred meets a full queue": (
        [*HEALTHY, finished("stop", "0+990x400"), rejected("0+10x400")],
        set(),
    ),
    "an engine reads a long prompt": (
        [*HEALTHY, *engine("1x400", "0+60x110 6600x290", "0.1+0.001x400")],
        set(),
    ),
    "an engine has requests and does nothing": (
        [*HEALTHY, *engine("1x400", "0+60x110 6600x290")],
        {"ModelEngineStalled/page"},
    ),
    "an engine has nothing to do": ([*HEALTHY, *engine("0x400", "6600x400")], set()),
}


def requests(outcome: str, values: str) -> dict[str, str]:
    return {"series": f'llm_gateway_outcomes_total{{outcome="{outcome}"}}', "values": values}


def known(values: str) -> dict[str, str]:
    labels = 'job="routers",model_name="tiny",instance="10.0.0.9:29000"'
    return {"series": f"vllm_router_active_workers{{{labels}}}", "values": values}


def behind(values: str) -> dict[str, str]:
    labels = 'job="gateways",instance="10.0.0.7:9400"'
    return {"series": f"llm_gateway_usage_behind_seconds{{{labels}}}", "values": values}


GATEWAY = {"series": 'up{job="gateways",instance="10.0.0.7:9400"}', "values": "1x400"}
BEFORE_THE_MODELS = {
    "all is well": ([GATEWAY, *HEALTHY, known("2x400"), requests("answered", "0+60x400")], set()),
    "users send nonsense, too much, or leave": (
        [
            GATEWAY,
            requests("answered", "0+60x400"),
            *(requests(outcome, "0+60x400") for outcome in ("refused", "limited", "left")),
        ],
        set(),
    ),
    "one stream in a hundred is cut": (
        [GATEWAY, requests("answered", "0+990x400"), requests("cut", "0+10x400")],
        {"GatewayLosesRequests/ticket"},
    ),
    "one request in ten finds no model": (
        [GATEWAY, requests("answered", "0+90x400"), requests("overloaded", "0+10x400")],
        {"GatewayLosesRequests/page", "GatewayLosesRequests/ticket"},
    ),
    "no gateway is there": ([], {"GatewayDown/page"}),
    "its database is written to": ([GATEWAY, behind("0.5+0x400")], set()),
    "its database is away for a minute": ([GATEWAY, behind("0.5+0x110 60 0.5+0x289")], set()),
    "its database is away": ([GATEWAY, behind("0.5+0x100 0+60x300")], {"GatewayKeepsUsage/ticket"}),
    "a router keeps a replica that is gone": (
        [GATEWAY, *up("1x400"), known("2x400")],
        {"RouterDisagrees/ticket"},
    ),
    "a replica loads": ([GATEWAY, *up("1x400", "1x112 0x5 1x283"), known("2x114 1x3 2x283")], set()),
}


@pytest.mark.parametrize(("groups", "situations"), [(TINYS, SITUATIONS), (FRONT, BEFORE_THE_MODELS)])
def test_each_alert_fires_when_it_should_and_only_then(tmp_path, groups, situations):
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    tests = [
        {"name": name, "interval": "1m", "input_series": series, "promql_expr_test": [_firing(firing)]}
        for name, (series, firing) in situations.items()
    ]
    given = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(given))
    promtool("test", "rules", tmp_path / "tests.yml")
    assert {name for _, firing in situations.values() for name in firing} == {
        f"{rule['alert']}/{rule['labels']['severity']}" for rule in alerts(groups)
    }


def _firing(alerts: set[str]) -> dict:
    samples = [
        {"labels": f'{{alertname="{name}", severity="{severity}"}}', "value": 1}
        for name, _, severity in (alert.partition("/") for alert in sorted(alerts))
    ]
    firing = 'count by (alertname, severity) (ALERTS{alertstate="firing"})'
    return {"expr": firing, "eval_time": "2h", "exp_samples": samples}


def alerts(groups: list[dict]) -> list[dict]:
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_a_block_fits_into_the_memory_for_samples_while_it_is_written():
    args = dict(
        arg.removeprefix("--storage.tsdb.").split("=")
        for arg in render(spec())[-1]["spec"]["template"]["spec"]["containers"][0]["args"]
        if arg.startswith("--storage.tsdb.")
    )
    reserved = sum(
        int(args[name].removesuffix("MB")) for name in ("max-block-chunk-segment-size", "wal-segment-size")
    )
    assert 3 * reserved * 10**6 < spec().stored


def test_each_alert_says_what_is_wrong_and_which_runbook_helps():
    for rule in alerts(TINYS):
        assert rule["annotations"]["summary"].startswith("tiny: ")
    for rule in alerts(TINYS + FRONT):
        assert (REPOSITORY / rule["annotations"]["runbook"]).is_file()
        assert rule["annotations"]["runbook"].startswith(RUNBOOKS)


def test_every_query_is_about_one_model_and_metrics_that_are_known():
    names = {metric.name for metric in METRICS}
    for group in TINYS:
        for rule in group["rules"]:
            assert "model_name" in rule["expr"]
            used = re.findall(r"vllm:[a-z_]+", rule["expr"])
            assert all(any(found.startswith(name) for name in names) for found in used), rule["expr"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objectives": []}, "at least 1 item"),
        ({"objectives": [{"model": "a", "replicas": 1}] * 2}, "a is there twice"),
        (
            {"objectives": [{"model": "a", "replicas": 1, "first_word_seconds": 3}]},
            "3 is none of them",
        ),
        ({"objectives": [{"model": "a", "replicas": 1, "good": 1}]}, "less than 1"),
        ({"memory": 2**28, "stored": 2**28}, "more than half of memory"),
        ({"routed": ["another"]}, "another has no objective"),
        ({"objective": []}, "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_watched_is_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        spec(**wrong)


@pytest.mark.parametrize(("seconds", "written"), [(1, '"1.0"'), (0.25, '"0.25"'), (20, '"20.0"')])
def test_a_bound_is_written_as_vllm_writes_it(seconds, written):
    objective = Objective(model="tiny", replicas=1, first_word_seconds=seconds)
    late = [rule["expr"] for rule in rules([objective])["groups"][0]["rules"] if "late" in rule["record"]]
    assert len(late) == 4
    assert all(f"le={written}" in query for query in late)
