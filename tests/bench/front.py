"""Our gateway beside LiteLLM and vllm-router alone: each one process on this machine, before the same real model."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import yaml

from lab.plan import LabPlan
from modules.llm_gateway_spec import LlmGatewaySpec
from sitewright.errors import SitewrightError
from tests.bench.figure import Figure, progress
from tests.bench.serving import MODEL, REPLICAS, first_word, interval, last_word, pace, quantiles, streams
from tests.lab.gateway_program import KEY, Gateway, free_port, wait_for
from tests.load import Stream, quantile

ROUNDS, STREAMS, WARM_UP = 5, 20, 10
ADDED_S = {"gateway": 0.020, "vllm_router": 0.005}  # p50, the pass lines of docs/figures.md


def front() -> Iterator[Figure]:
    """What each adds to an answer, its pace, and the memory of its process."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fronts = {
            "the model": (REPLICAS, None),
            "gateway": stack.enter_context(_gateway(place)),
            "litellm": stack.enter_context(_litellm(place)),
            "vllm_router": stack.enter_context(_router(place)),
        }
        found: dict[str, list[Stream]] = {name: [] for name in fronts}
        for name, (url, key) in fronts.items():
            progress(f"front: {name} warms up")
            streams(url, WARM_UP, key, seed=0)
        for turn in range(ROUNDS):
            progress(f"front: round {turn + 1} of {ROUNDS}")
            for name, (url, key) in fronts.items():
                found[name] += streams(url, STREAMS, key, seed=turn)
    direct = found.pop("the model")
    for name, ours in found.items():
        for what, of in (("first_word", first_word), ("last_word", last_word)):
            mine, theirs = sorted(map(of, ours)), sorted(map(of, direct))
            added = quantile(mine, 0.5) - quantile(theirs, 0.5)
            details = {"confidence_95": interval(mine, theirs), **quantiles(mine)}
            peer = {"name": "the model's Service", **quantiles(theirs)}
            yield Figure(f"front.{name}.{what}.added_p50", added, "s", ADDED_S.get(name), peer, details)
        yield Figure(f"front.{name}.words_per_second", quantile(sorted(map(pace, ours)), 0.5), "1/s")


@contextlib.contextmanager
def _gateway(place: Path) -> Iterator[tuple[str, str]]:
    """As its pods run it, from the rendered manifests."""
    given = {
        "image": "i",
        "python": str(_environment() / "bin/python"),
        "pool": "svc",
        "models": [{"name": MODEL, "targets": [{"api_base": REPLICAS}]}],
    }
    made = Gateway(LlmGatewaySpec.model_validate(given), place)
    try:
        yield f"{made.url}/v1", KEY
    finally:
        made.stop()


@contextlib.contextmanager
def _litellm(place: Path) -> Iterator[tuple[str, str]]:
    """With nothing of ours: its proxy, one model, its own key."""
    port = free_port()
    model = {"model": f"hosted_vllm/{MODEL}", "api_base": REPLICAS, "api_key": "none"}
    (place / "litellm.yaml").write_text(
        yaml.safe_dump({"model_list": [{"model_name": MODEL, "litellm_params": model}]})
    )
    variables = {"CONFIG_FILE_PATH": str(place / "litellm.yaml"), "LITELLM_MASTER_KEY": KEY}
    variables |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "HOME": str(place)}
    command = [str(_environment() / "bin/python"), "-m", "uvicorn", "litellm.proxy.proxy_server:app"]
    command += ["--port", str(port), "--no-access-log"]
    with _process(command, variables, place / "litellm.log"):
        _until(f"http://127.0.0.1:{port}/health/readiness", "LiteLLM")
        yield f"http://127.0.0.1:{port}/v1", KEY


@contextlib.contextmanager
def _router(place: Path) -> Iterator[tuple[str, None]]:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "vllm_router.launch_router",
        "--worker-urls",
        REPLICAS.removesuffix("/v1"),
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
    with _process([*command, "--log-level", "warning"], {}, place / "router.log"):
        _until(f"http://127.0.0.1:{port}/readiness", "vllm-router")
        yield f"http://127.0.0.1:{port}/v1", None


@contextlib.contextmanager
def _process(command: list[str], variables: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("w") as file:
        started = subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        started.terminate()
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait(10)


def _until(url: str, what: str) -> None:
    def answers() -> bool:
        try:
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    wait_for(answers, what, 120)


def _environment() -> Path:
    """LiteLLM's, as the lab published it."""
    site = LabPlan.of("lab").site
    name = site.services.gateway.environment if site.services.gateway else "litellm"
    found = sorted(Path(site.shared_filesystem.publish_dir).glob(f"environments/{name}-*"))
    if not found:
        raise SitewrightError(f"no environment {name} in the lab", "`make lab` makes one.")
    return max(found, key=lambda path: path.stat().st_mtime)
