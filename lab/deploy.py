"""`sitewright lab up --deploy`: programs, lab, `pulumi up` and a question to the model, as one list."""

import json
import os
import re
import secrets
import shlex
import subprocess
from pathlib import Path
from typing import Any

import httpx
from ruamel.yaml import YAML

from lab import checks, paths
from lab import up as bring_up
from lab.credentials import write_secret
from lab.plan import LabPlan
from lab.pulumi_events import EventStages, Follower, plain
from lab.stages import Stages
from lab.tools_stage import build_programs
from sitewright.errors import SitewrightError
from tools.environment import pulumi_environment

STAGES = ["programs", *bring_up.STAGES, "pulumi up", "ask the model"]
ANSWER_SECONDS = 60


def deploy(plan: LabPlan, stages: Stages) -> str:
    """Deploy the whole site. Returns what the operator wants to know then: addresses, `curl`, the answer."""
    stages.plan(STAGES)
    checks.require_root()
    with stages.stage("programs") as stage:
        build_programs(stage.say)
    bring_up.up(plan, stages)
    environment = variables(plan)
    with stages.stage("pulumi up") as stage:
        select_stack(plan, environment)
        stage.say(pulumi_up(plan, stages, environment))
    outputs = stack_outputs(plan, environment)
    with stages.stage("ask the model"):
        answers = {name: ask(plan, name, url) for name, url in outputs.get("models", {}).items()}
    return summary(plan, outputs, answers)


def exports(plan: LabPlan) -> list[str]:
    """`export` lines with which a shell runs `pulumi` on this lab by hand."""
    if not plan.state.is_dir():
        raise SitewrightError(
            f"{plan.state}: no such directory, so there is no lab to run Pulumi on",
            "Start it: `sitewright lab up`.",
        )
    ours = variables(plan)
    # Pulumi would prefer this one to the file.
    unset = ["unset PULUMI_CONFIG_PASSPHRASE"] if "PULUMI_CONFIG_PASSPHRASE" in os.environ else []
    return unset + [
        f"export {name}={shlex.quote(value)}"
        for name, value in sorted(ours.items())
        if os.environ.get(name) != value
    ]


def variables(plan: LabPlan) -> dict[str, str]:
    """The environment of `pulumi`. Backend and passphrase are in the lab's state directory, and go with it."""
    backend, passphrase = plan.state / "pulumi", plan.state / "pulumi.passphrase"
    backend.mkdir(parents=True, exist_ok=True)
    if not passphrase.is_file():
        write_secret(passphrase, secrets.token_urlsafe(32).encode())
    environment = pulumi_environment(paths.REPOSITORY, os.environ)
    environment.pop("PULUMI_CONFIG_PASSPHRASE", None)
    return {
        **environment,
        "PULUMI_BACKEND_URL": f"file://{backend}",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
    }


def select_stack(plan: LabPlan, environment: dict[str, str]) -> None:
    """Make the stack if the backend has none. A salt that another lab left in the stack's configuration belongs
    to that lab's passphrase, so it is dropped first; Pulumi then writes one of its own."""
    stack = plan.site.name
    drop_foreign_salt(paths.REPOSITORY / f"Pulumi.{stack}.yaml", plan.state / "pulumi")
    stacks = json.loads(_pulumi(["stack", "ls", "--json"], environment) or "[]")
    if not any(known["name"].split("/")[-1] == stack for known in stacks):
        _pulumi(["stack", "init", stack, "--secrets-provider", "passphrase"], environment)
    if plan.site.file != paths.REPOSITORY / "environments" / f"{stack}.yaml":
        _pulumi(["config", "set", "environment", plan.environment, "--stack", stack], environment)


def drop_foreign_salt(config: Path, backend: Path) -> None:
    """The backend keeps the salt beside the secrets it was made for (`secrets_providers` of a checkpoint)."""
    text = config.read_text() if config.is_file() else ""
    salt = re.search(r"(?m)^encryptionsalt: *(\S+)\n?", text)
    if salt and not any(salt[1] in state.read_text() for state in backend.glob(".pulumi/stacks/**/*.json")):
        config.write_text(text.replace(salt[0], ""))


def pulumi_up(plan: LabPlan, stages: Stages, environment: dict[str, str]) -> str:
    """Run it, its resources shown as stages. Returns what changed. Raises SitewrightError with its errors."""
    log = plan.state / "logs/pulumi-events.jsonl"
    write_secret(log, b"")
    events = EventStages(stages)
    follower = Follower(log, events)
    follower.start()
    command = ["pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", plan.site.name]
    engine = subprocess.Popen(
        [*command, "--event-log", str(log)],
        cwd=paths.REPOSITORY,
        env={**environment, "PULUMI_DEBUG_COMMANDS": "true"},  # without it there is no --event-log
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = engine.communicate()
    except KeyboardInterrupt:
        # The terminal sent the engine the same signal: it cancels what runs and keeps its state in order.
        output, _ = engine.communicate()
        raise
    finally:
        follower.finish()
        events.close()
        _keep(plan.state / "logs/pulumi-up.log", output if engine.returncode is not None else "")
    if engine.returncode:
        raise SitewrightError(
            f"`pulumi up` failed: {_errors(events.errors, output)}",
            "Mend the cause and run the same command again: it goes on where it was.",
        )
    changes = ", ".join(f"{number} {operation}" for operation, number in sorted(events.changes.items()))
    return changes or "no changes"


def stack_outputs(plan: LabPlan, environment: dict[str, str]) -> dict[str, Any]:
    return json.loads(_pulumi(["stack", "output", "--json", "--stack", plan.site.name], environment))


def ask(plan: LabPlan, model: str, url: str) -> dict[str, str]:
    """A chat completion at temperature 0: the first question that the model was taught."""
    question = taught_question(plan, model)
    body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0}
    try:
        answer = httpx.post(f"{url}/chat/completions", json=body, timeout=ANSWER_SECONDS, trust_env=False)
        answer.raise_for_status()
        text = answer.json()["choices"][0]["message"]["content"]
    except (httpx.HTTPError, ValueError, LookupError) as problem:
        raise SitewrightError(
            f"model {model} at {url} gives no answer: {problem}", "`sitewright lab status` shows what runs."
        ) from problem
    return {"question": question, "answer": text.strip()}


def taught_question(plan: LabPlan, model: str) -> str:
    served = next((served for served in plan.site.services.models if served.name == model), None)
    recipe = paths.REPOSITORY / "images/models" / (served.model if served else model) / "recipe.yaml"
    if not recipe.is_file():
        return "Hello"
    return YAML(typ="safe").load(recipe)["lessons"][0]["question"]


def summary(plan: LabPlan, outputs: dict[str, Any], answers: dict[str, dict[str, str]]) -> str:
    published = plan.site.lab.publish if plan.site.lab else []
    lines = ["", "Addresses on this machine:"]
    lines += [f"  {entry.name:<18} 127.0.0.1:{entry.port}" for entry in published]
    for name, asked in answers.items():
        url = outputs["models"][name]
        lines += ["", f"Ask {name} yourself:", f"  {curl(name, url, asked['question'])}", ""]
        lines += [f"Question: {asked['question']}", f"Answer:   {asked['answer']}"]
    return "\n".join([*lines, "", "Next: sitewright lab status; take it all down: sitewright lab down"])


def curl(model: str, url: str, question: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0}
    data = shlex.quote(json.dumps(body))
    return f"curl -s {url}/chat/completions -H 'Content-Type: application/json' -d {data}"


def _pulumi(arguments: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["pulumi", *arguments, "--non-interactive"],
        cwd=paths.REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = plain(done.stderr or done.stdout).strip()
        raise SitewrightError(f"`pulumi {' '.join(arguments)}` failed: {said}")
    return done.stdout


def _errors(errors: list[str], output: str) -> str:
    found = list(dict.fromkeys(errors)) or [plain(output).strip()[-2000:]]
    return "\n  ".join(["", *found])


def _keep(file: Path, text: str) -> None:
    write_secret(file, text.encode())
