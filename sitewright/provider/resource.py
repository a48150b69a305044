"""PlaybookRun as a Pulumi program writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

TYPE = "sitewright:index:PlaybookRun"


class PlaybookRun(pulumi.CustomResource):
    """One run of an Ansible playbook, repeated when the playbook, a role or file behind it, or an input
    changes.

    playbook:       path below the repository, such as `playbooks/bootstrap-cluster.yml`.
    environment:    name of the site file whose inventory is used; without it only localhost.
    limit:          hosts to act on: a hostlist or an Ansible pattern; without it all that the plays name.
    variables:      extra variables; may hold outputs and secrets. An update finds those of the run before in
                    `sitewright_previous`, to undo what is no longer among them.
    triggers:       anything whose change means another run.
    files:          further files behind the run (paths, directories, globs), such as an image recipe.
    verify:         playbook that `pulumi refresh` runs; it fails, sets the stat `drift`, or in
                    check mode would change something, where a repeat is needed.
    undo:           playbook that runs with the old variables when the resource is deleted. A replacement
                    deletes first: undone after it was done anew, it would stay undone.
    timeout:        longest time for the playbook, such as `10m`; then it is stopped and the resource fails.
    secret_results: names of results that are secrets.
    stable_results: names of results that a repeat does not change (a kubeconfig; `["*"]` is all). Preview
    then keeps them, so that what uses them is not shown as changed. Results are unknown in preview otherwise.
    """

    def __init__(
        self,
        name: str,
        playbook: pulumi.Input[str],
        environment: pulumi.Input[str] | None = None,
        limit: pulumi.Input[str] | None = None,
        variables: pulumi.Input[Mapping[str, Any]] | None = None,
        triggers: Any = None,
        files: Sequence[pulumi.Input[str]] | None = None,
        verify: pulumi.Input[str] | None = None,
        undo: pulumi.Input[str] | None = None,
        timeout: pulumi.Input[str] | None = None,
        secret_results: Sequence[str] = (),
        stable_results: Sequence[str] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        self._secret_results = frozenset(secret_results)
        inputs = {
            "playbook": playbook,
            "environment": environment,
            "limit": limit,
            "variables": variables,
            "triggers": triggers,
            "files": files,
            "verify": verify,
            "undo": undo,
            "timeout": timeout,
            "secretResults": list(secret_results) or None,
            "stableResults": list(stable_results) or None,
        }
        outputs = dict.fromkeys(("results", "changed", "log"))
        delete_first = pulumi.ResourceOptions(delete_before_replace=True)
        super().__init__(TYPE, name, {**inputs, **outputs}, pulumi.ResourceOptions.merge(opts, delete_first))

    @property
    def results(self) -> pulumi.Output[dict[str, Any]]:
        """What the play `set_stats`, by name; as a whole a secret if it holds one."""
        return pulumi.get(self, "results")

    @property
    def changed(self) -> pulumi.Output[bool]:
        """Whether the last run changed anything on any host."""
        return pulumi.get(self, "changed")

    @property
    def log(self) -> pulumi.Output[str]:
        """Directory of the last run's artifacts, below the repository."""
        return pulumi.get(self, "log")

    def result(self, name: str) -> pulumi.Output[Any]:
        """One result; a secret only if it is named in `secret_results`."""
        whole = self.results if name in self._secret_results else pulumi.Output.unsecret(self.results)
        return whole[name]
