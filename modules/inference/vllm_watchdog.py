"""Liveness of a vLLM replica: it answers, and what works on requests gets on. Exit status 0 alive, 1 not.

vLLM's own /health answers 200 while its engine hangs (vllm issue 39863). Here an engine counts as hung when it has
requests in work and for a while neither ends an iteration nor fills its cache, as a long prompt does before its first
token. One that hangs while it has nothing to do would say so for ever: it is asked for a token now and then.
Run by the kubelet in the replica's own container: `python -c <this file> PORT`. No module of ours is there.
"""

import json
import sys
import time
import urllib.request
from pathlib import Path

TIMEOUT = 10  # seconds for one answer
PATIENCE = 45  # seconds without progress; no step takes so long
QUIET = 20  # seconds in which nothing moved, after which an idle engine is asked
RUNNING = "vllm:num_requests_running"
PROGRESS = ("vllm:iteration_tokens_total_count", "vllm:kv_cache_usage_perc")
MEMORY = Path("/tmp/watchdog.json")  # what was seen at the look before


def series(text: str, name: str) -> dict[str, str]:
    """Value by labels, in the text format of Prometheus: one per engine of the replica."""
    lines = [line.removeprefix(name) for line in text.splitlines() if line.startswith(f"{name}{{")]
    return {labels: value for labels, _, value in (line.rpartition(" ") for line in lines)}


def seen(metrics: str, before: dict[str, list], now: float) -> dict[str, list]:
    """By engine: how far it has got, whether it works, and since when both are so."""
    progress = [series(metrics, name) for name in PROGRESS]
    found = {}
    for engine, running in series(metrics, RUNNING).items():
        place = [*(values.get(engine) for values in progress), float(running) > 0]
        known, since = before.get(engine, [None, now])
        found[engine] = [place, since if place == known else now]
    return found


def get(port: str, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT) as answer:
        return answer.read().decode()


def ask_for_a_token(port: str) -> None:
    """Through all that a user's request goes through. Raises: OSError where the engine gives none in time."""
    model = json.loads(get(port, "/v1/models"))["data"][0]["id"]
    body = json.dumps({"model": model, "prompt": "a", "max_tokens": 1}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", body, headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT):
        pass


def main(port: str) -> None:
    get(port, "/health")
    before = json.loads(MEMORY.read_text()) if MEMORY.exists() else {}
    now = time.monotonic()
    engines = seen(get(port, "/metrics"), before, now)
    MEMORY.write_text(json.dumps(engines))
    for engine, (place, since) in engines.items():
        if place[-1] and now - since > PATIENCE:
            sys.exit(f"engine {engine} has requests and stands at {place} for {now - since:.0f} s")
    if engines and all(not place[-1] and now - since > QUIET for place, since in engines.values()):
        ask_for_a_token(port)


if __name__ == "__main__":
    main(sys.argv[1])
