"""Queues for fine-tuning runs: which one goes first, which one waits, and which one makes way (Kueue).

Two cluster queues share the nodes of a pool. `inference` holds what the served models need; nobody queues there, so all
it does is to lend what runs may borrow. `fine-tuning` is where each team has its queue. A run of higher priority makes
one of lower priority write a checkpoint and wait.
"""

from typing import Any

import pulumi

from modules.inference.serving import toleration
from modules.manifest import Manifest
from modules.queues.batch_queues_controller import controller
from modules.queues.batch_queues_spec import COVERED, BatchQueuesSpec, Flavor, Quota
from sitewright.site.names import POOL_LABEL

KUEUE = "kueue.x-k8s.io/v1beta2"
COHORT, INFERENCE, FINE_TUNING = "sitewright", "inference", "fine-tuning"
ACTIVE = {"pulumi.com/waitFor": "condition=Active", "pulumi.com/timeoutSeconds": "120"}


def render(spec: BatchQueuesSpec) -> list[dict[str, Any]]:
    """The manifests, in the order they are applied: Kueue, and then what it must be there for."""
    return [*controller(spec), *queues(spec)]


def queues(spec: BatchQueuesSpec) -> list[dict[str, Any]]:
    """What Kueue goes by."""
    return [
        *(_flavor(flavor) for flavor in spec.flavors),
        *(_priority(name, value) for name, value in spec.priorities.items()),
        _guard(spec),
        _fine_tuning(spec),
        *(_local(spec, team) for team in spec.teams),
    ]


class BatchQueues(pulumi.ComponentResource):
    """image: reference by digest; it replaces that of `spec`. opts: depend on the namespace of the runs.

    `names` are the queues that a run can be submitted to.
    """

    def __init__(
        self, spec: BatchQueuesSpec, image: pulumi.Input[str], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("sitewright:modules:BatchQueues", FINE_TUNING, None, opts)
        namespace, *rest, deployment = controller(spec)
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image
        first = self._made(namespace, [])
        inside = [self._made(manifest, [first]) for manifest in rest]
        # Its webhooks judge all that follows.
        ready = self._made(deployment, inside)
        flavors_and_more, local = _by_namespace(queues(spec))
        shared = [self._made(manifest, [ready]) for manifest in flavors_and_more]
        for manifest in local:
            self._made(manifest, shared)
        self.names = spec.teams
        self.register_outputs({"names": list(spec.teams)})

    def _made(self, manifest: dict[str, Any], after: list[pulumi.Resource]) -> pulumi.Resource:
        name = f"queues-{manifest['kind']}-{manifest['metadata']['name']}".lower()
        return Manifest(manifest, name, pulumi.ResourceOptions(parent=self, depends_on=after))


def _by_namespace(manifests: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Those of the whole cluster, and those of a namespace, which refer to them."""
    local = [manifest for manifest in manifests if "namespace" in manifest["metadata"]]
    return [manifest for manifest in manifests if manifest not in local], local


def _flavor(flavor: Flavor) -> dict[str, Any]:
    tolerations = [toleration(taint) for taint in flavor.taints]
    return {
        "apiVersion": KUEUE,
        "kind": "ResourceFlavor",
        "metadata": {"name": flavor.pool},
        "spec": {
            "nodeLabels": {POOL_LABEL: flavor.pool},
            **({"tolerations": tolerations, "nodeTaints": _taints(flavor)} if flavor.taints else {}),
        },
    }


def _taints(flavor: Flavor) -> list[dict[str, str]]:
    parts = [taint.rpartition(":") for taint in flavor.taints]
    return [
        {"key": key.partition("=")[0], "value": key.partition("=")[2], "effect": effect}
        for key, _, effect in parts
    ]


def _priority(name: str, value: int) -> dict[str, Any]:
    return {
        "apiVersion": KUEUE,
        "kind": "WorkloadPriorityClass",
        "metadata": {"name": name},
        "value": value,
        "description": "Of fine-tuning runs among themselves; one that names no class has 0.",
    }


def _guard(spec: BatchQueuesSpec) -> dict[str, Any]:
    quotas = {flavor.pool: _lent(flavor.guaranteed, flavor.lendable) for flavor in spec.flavors}
    return _cluster_queue(INFERENCE, quotas)


def _fine_tuning(spec: BatchQueuesSpec) -> dict[str, Any]:
    quotas = {
        flavor.pool: [
            {"name": name, "nominalQuota": amount} for name, amount in flavor.fine_tuning.quantities.items()
        ]
        for flavor in spec.flavors
    }
    made = _cluster_queue(FINE_TUNING, quotas)
    made["spec"]["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": spec.namespace}}
    return made


def _lent(held: Quota, lent: Quota) -> list[dict[str, str]]:
    limits = lent.quantities
    return [
        {"name": name, "nominalQuota": amount, "lendingLimit": limits[name]}
        for name, amount in held.quantities.items()
    ]


def _cluster_queue(name: str, quotas: dict[str, list[dict[str, str]]]) -> dict[str, Any]:
    """quotas: by flavor. A queue without a namespaceSelector takes nobody in."""
    flavors = [{"name": flavor, "resources": resources} for flavor, resources in quotas.items()]
    return {
        "apiVersion": KUEUE,
        "kind": "ClusterQueue",
        "metadata": {"name": name, "annotations": ACTIVE},
        "spec": {
            "cohortName": COHORT,
            "resourceGroups": [{"coveredResources": list(COVERED), "flavors": flavors}],
            "preemption": {"withinClusterQueue": "LowerPriority", "reclaimWithinCohort": "Any"},
        },
    }


def _local(spec: BatchQueuesSpec, team: str) -> dict[str, Any]:
    return {
        "apiVersion": KUEUE,
        "kind": "LocalQueue",
        "metadata": {"name": team, "namespace": spec.namespace, "annotations": ACTIVE},
        "spec": {"clusterQueue": FINE_TUNING},
    }
