"""The metrics of vLLM that rules and probes are written for, by name, kind and labels.

vLLM renames metrics between versions, and a query for a name that is gone is empty and says nothing: four projects
found out late (production-stack issue 617, aibrix pull request 2057). So each name is here once, and a test asks a real
vLLM 0.32 for all of them (tests/lab/test_8_slo.py). Source: vllm, v1/metrics/loggers.py.
"""

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """name: of the family, without `_total` or `_bucket`; labels: beside model_name and engine."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    what: str
    labels: tuple[str, ...] = ()


RUNNING = Metric("vllm:num_requests_running", "gauge", "requests that get tokens now")
WAITING = Metric("vllm:num_requests_waiting", "gauge", "requests that wait for a place in the batch")
CACHE = Metric("vllm:kv_cache_usage_perc", "gauge", "share of the KV cache in use, 1 is full")
FINISHED = Metric("vllm:request_success", "counter", "requests that ended, and how", ("finished_reason",))
REJECTED = Metric("vllm:admission_rejections", "counter", "requests that met a full queue: 503", ("reason",))
STEPS = Metric(
    "vllm:iteration_tokens_total", "histogram", "tokens per step; its count is the number of steps"
)
FIRST_WORD = Metric("vllm:time_to_first_token_seconds", "histogram", "from the request to its first token")
NEXT_WORD = Metric("vllm:inter_token_latency_seconds", "histogram", "between two tokens of an answer")
METRICS = (RUNNING, WAITING, CACHE, FINISHED, REJECTED, STEPS, FIRST_WORD, NEXT_WORD)

# Names that vLLM has given up, and what they are called now (gateway-api-inference-extension pull request 1905).
RENAMED = {
    "vllm:gpu_cache_usage_perc": CACHE.name,
    "vllm:cpu_cache_usage_perc": CACHE.name,
}
