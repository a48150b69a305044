"""`pulumi preview` of a site of thousands of nodes, by the real engine and its plugins, without any cluster.

It runs in a project of its own in a temporary directory: the repository's program, playbooks and images, the
site file, and what that file names and only the site has: keys, a kubeconfig of a server that does not
answer, recipes of its models.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sitewright.errors import SitewrightError
from sitewright.site import Site, load
from tests.bench.figure import Figure, progress
from tests.bench.memory import Sampler, tree_memory
from tools.environment import pulumi_environment

REPOSITORY = Path(__file__).resolve().parents[2]
SITE = "example-alps"
NOBODY = """\
apiVersion: v1
kind: Config
current-context: nobody
clusters: [{name: nobody, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: nobody, user: {token: nobody}}]
contexts: [{name: nobody, context: {cluster: nobody, user: nobody}}]
"""


def preview() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="sitewright-bench-") as directory:
        root = Path(directory)
        site = project(root)
        environment = _environment(root)
        stack = ["--non-interactive", "--stack", SITE]
        _pulumi(
            ["stack", "init", SITE, "--secrets-provider", "passphrase", "--non-interactive"],
            root,
            environment,
        )
        _pulumi(["config", "set", "environment", str(site.file), *stack], root, environment)
        progress(f"preview: pulumi preview of {SITE}, {len(site.nodes)} nodes")
        began = time.monotonic()
        output, peak = _pulumi(["preview", *stack], root, environment)
        seconds = time.monotonic() - began
    details = {"nodes": len(site.nodes), "resources": to_create(output)}
    yield Figure(f"preview.{SITE}", seconds, "s", details=details)
    yield Figure(
        f"preview.{SITE}.peak_memory", peak / 2**20, "MiB", details={"of": "engine, plugins, program"}
    )


def project(root: Path) -> Site:
    """A checkout in `root` in which the site can be previewed."""
    for name in ("environments", "playbooks", "images"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Pulumi.yaml", "ansible.cfg"):
        shutil.copy(REPOSITORY / name, root / name)
    for name in ("stacks", ".venv"):
        (root / name).symlink_to(REPOSITORY / name)
    site = load(root / "environments" / f"{SITE}.yaml")
    assert site.hypervisor and site.ssh, f"{SITE} has a section for each"
    _write(Path(site.hypervisor.kubeconfig), NOBODY)
    _write(Path(f"{site.ssh.private_key}.pub"), "ssh-ed25519 AAAAC3Nza operator\n")
    assert site.provisioner and site.provisioner.token_file, f"{SITE} has one"
    _write(site.provisioner.token_file, "a token for the provisioner\n")
    recipe = next((root / "images/models").glob("*/recipe.yaml")).read_text()
    for model in site.services.models:
        _write(root / "images/models" / model.model / "recipe.yaml", recipe)
    return site


def to_create(output: str) -> int:
    """From the summary of the engine: `+ 69 to create`."""
    found = re.search(r"\+ (\d+) to create", output)
    if not found:
        raise SitewrightError(f"the preview has no summary of what it would create:\n{output[-2000:]}")
    return int(found[1])


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        file.write_text(text)


def _environment(root: Path) -> dict[str, str]:
    backend = root / "backend"
    backend.mkdir()
    environment = pulumi_environment(root, os.environ)
    environment.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)
    return {**environment, "PULUMI_BACKEND_URL": f"file://{backend}", "PULUMI_CONFIG_PASSPHRASE": "bench"}


def _pulumi(arguments: list[str], root: Path, environment: dict[str, str]) -> tuple[str, int]:
    """Its output, and the peak of its process tree in bytes."""
    engine = subprocess.Popen(
        ["pulumi", *arguments],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with Sampler(lambda: tree_memory(engine.pid), every=0.2) as memory:
        output, _ = engine.communicate()
    if engine.returncode:
        raise SitewrightError(f"`pulumi {' '.join(arguments)}` failed:\n{output[-3000:]}")
    return output, memory.peak()
