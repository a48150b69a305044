"""Has nodes that were switched on join their cluster, with the playbook that `pulumi up` runs."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kubernetes import client
from kubernetes.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION

from modules.clusters.kubernetes_cluster import API_PORT
from modules.nodes import node_join
from sitewright.errors import SitewrightError
from sitewright.kubernetes_api import Missing, call
from sitewright.lifecycle.playbooks import Errors, run_on
from sitewright.provisioning.joining import join_facts
from sitewright.site import Pool, Site

PLAYBOOK = "playbooks/join-nodes.yml"
PAUSE_SECONDS = 5.0


def kubeconfig_text() -> str:
    """The kubeconfig that KUBECONFIG names. Raises: SitewrightError where it is not one file that can be read."""
    path = Path(os.environ.get("KUBECONFIG") or KUBE_CONFIG_DEFAULT_LOCATION).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SitewrightError(
            f"kubeconfig {path}: {error.strerror}",
            "Let KUBECONFIG name one file, the cluster's kubeconfig (docs/README.md).",
        ) from error


def authority() -> str:
    """The certificate of the cluster's authority, as every namespace of it has it."""
    try:
        found = call(client.CoreV1Api().read_namespaced_config_map, "kube-root-ca.crt", "kube-system")
    except Missing as missing:
        raise SitewrightError(
            f"the cluster has no ConfigMap kube-system/kube-root-ca.crt: {missing}",
            "Its controller manager writes it; does that run?",
        ) from missing
    return str(found.data["ca.crt"])


def join(
    site: Site,
    pool: Pool,
    environment: str,
    nodes: Sequence[str],
    timeout: float,
    tell: Callable[[str], None],
) -> Errors:
    """Wait until the nodes have booted and are Ready in the cluster.

    timeout: seconds. A real node takes minutes to get through its firmware, and more than one try of the playbook.
    """
    kubeconfig = kubeconfig_text()
    facts = join_facts(site, pool)
    endpoint = f"https://{site.cluster(pool.cluster).endpoint_address}:{API_PORT}"
    variables = {
        "nodes": list(nodes),
        "settings": node_join.settings(endpoint, authority(), **facts),
        "labels": facts["labels"],
        "taints": list(facts["taints"]),
        "kubeconfig": kubeconfig,
    }
    deadline = time.monotonic() + timeout
    while True:
        errors = run_on(
            PLAYBOOK,
            nodes,
            f"roll-join-{pool.name}",
            environment,
            variables,
            [kubeconfig],
            max(1.0, deadline - time.monotonic()),
            tell,
        )
        if not errors or time.monotonic() >= deadline:
            return errors
        nodes = list(errors)
        variables["nodes"] = nodes
        time.sleep(PAUSE_SECONDS)
        tell(f"not there yet, tried again: {next(iter(errors.values()))}")
