"""Playbooks on some nodes of a pool, run as `pulumi up` runs them, and recorded like those runs."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sitewright.errors import SitewrightError
from sitewright.provider.artifacts import read_runs, runs_directory
from sitewright.provider.failures import RunFailed
from sitewright.provider.repository import find_repository
from sitewright.provider.run import Job, Run
from sitewright.provider.values import texts_of

Errors = dict[str, str]
"""By node, why it failed; nodes that did not fail are not in it."""


class _Told:
    """Warnings of Ansible. Its status lines are left out: they would come several times a second."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    async def status(self, urn: str, message: str) -> None:
        return

    async def warning(self, urn: str, message: str) -> None:
        self._tell(message)


def require(playbook: str) -> None:
    """Raises: SitewrightError where the checkout has no such playbook."""
    path = find_repository(Path.cwd()) / playbook
    if not path.is_file():
        raise SitewrightError(
            f"{path}: no such playbook", "Its path starts in the checkout: playbooks/….yml."
        )


def run_on(
    playbook: str,
    nodes: Sequence[str],
    name: str,
    environment: str,
    variables: Mapping[str, Any],
    secrets: Sequence[str],
    timeout: float,
    tell: Callable[[str], None],
) -> Errors:
    """Run a playbook of the checkout on the nodes. name: of the run, for `sitewright runs list`; timeout: seconds.

    Raises: SitewrightError where it cannot even start.
    """
    repository = find_repository(Path.cwd())
    job = Job(
        name=name,
        urn="",
        action="run",
        playbook=playbook,
        environment=environment,
        limit=",".join([*nodes, "localhost"]),
        variables=variables,
        secrets=frozenset(texts_of(list(secrets))),
        timeout=timeout,
    )
    try:
        asyncio.run(Run(job, repository, _Told(tell)).execute())
    except RunFailed as failed:
        return dict.fromkeys(_lost(repository, failed, nodes), str(failed))
    return {}


def _lost(repository: Path, failed: RunFailed, nodes: Sequence[str]) -> Sequence[str]:
    """The nodes that a run failed on; all of them where it failed on none in particular."""
    hosts = next((one.hosts for one in read_runs(runs_directory(repository)) if one.run == failed.run), {})
    lost = [
        name for name in nodes if any(hosts.get(name, {}).get(what) for what in ("failures", "unreachable"))
    ]
    return lost or nodes
