"""Our gateway, LiteLLM alone and vllm-router alone: each one process on this machine, before the same model."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import yaml

from lab.plan import LabPlan
from modules.gateway.llm_gateway_spec import LlmGatewaySpec
from sitewright.errors import SitewrightError
from tests.lab.gateway_program import KEY, Gateway, free_port, wait_for


@contextlib.contextmanager
def gateway(place: Path, model: str, models: str) -> Iterator[tuple[str, str]]:
    """As its pods run it, from the rendered manifests. models: address of the Service they are asked at."""
    given = {
        "image": "i",
        "python": str(_environment() / "bin/python"),
        "pool": "svc",
        "models": [{"name": model, "targets": [{"api_base": models}]}],
    }
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for figures alone
        made = Gateway(LlmGatewaySpec.model_validate(given), place)
    try:
        yield f"{made.url}/v1", KEY
    finally:
        made.stop()


@contextlib.contextmanager
def litellm(place: Path, model: str, models: str) -> Iterator[tuple[str, str]]:
    """With nothing of ours: its proxy, one model, its own key."""
    port = free_port()
    target = {"model": f"hosted_vllm/{model}", "api_base": models, "api_key": "none"}
    (place / "litellm.yaml").write_text(
        yaml.safe_dump({"model_list": [{"model_name": model, "litellm_params": target}]})
    )
    variables = {"CONFIG_FILE_PATH": str(place / "litellm.yaml"), "LITELLM_MASTER_KEY": KEY}
    variables |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "HOME": str(place)}
    command = [str(_environment() / "bin/python"), "-m", "uvicorn", "litellm.proxy.proxy_server:app"]
    command += ["--port", str(port), "--no-access-log"]
    with _process(command, variables, place / "litellm.log"):
        _until(f"http://127.0.0.1:{port}/health/readiness", "LiteLLM")
        yield f"http://127.0.0.1:{port}/v1", KEY


@contextlib.contextmanager
def router(place: Path, models: str) -> Iterator[str]:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "vllm_router.launch_router",
        "--worker-urls",
        models.removesuffix("/v1"),
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
    with _process([*command, "--log-level", "warning"], {}, place / "router.log"):
        _until(f"http://127.0.0.1:{port}/readiness", "vllm-router")
        yield f"http://127.0.0.1:{port}/v1"


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
