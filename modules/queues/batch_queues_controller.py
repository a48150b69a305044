"""The manifests of Kueue itself: what its own Go module says (kueue_upstream.json), cut down to what is used here.

It decides about one kind of job in one namespace. Upstream's manifests let it into all Pods, Deployments and jobs of a
dozen other projects, and none of them could be made anywhere while Kueue does not answer; here only runs would wait.
"""

import json
from pathlib import Path
from typing import Any

from modules.inference.serving import locked_down, settings, toleration, unprivileged
from modules.queues.batch_queues_spec import BatchQueuesSpec
from modules.spec import REVISIONS_KEPT, quantity
from sitewright.site.names import POOL_LABEL

NAMESPACE = "kueue-system"
PREFIX = "kueue"  # Kueue finds its webhooks by it: pkg/util/cert of its module
NAME = f"{PREFIX}-controller-manager"
CONFIGURATION, CERTIFICATE, SERVICE = (
    f"{PREFIX}-{name}" for name in ("manager-config", "webhook-server-cert", "webhook-service")
)
FILE = "controller_manager_config.yaml"
CERTIFICATES = "/tmp/k8s-webhook-server/serving-certs"  # Kueue's default
HEALTH_PORT, METRICS_PORT, WEBHOOK_PORT = 8081, 8443, 9443
LABELS = {"app.kubernetes.io/name": "kueue", "control-plane": "controller-manager"}
USER = 65532  # of images/containers/kueue
JOBS = ("mjob.kb.io", "vjob.kb.io")
OWN_WEBHOOKS = {
    f"{kind}{name}.kb.io" for kind in "mv" for name in ("clusterqueue", "resourceflavor", "workload")
}
WEBHOOKS = {*JOBS, *OWN_WEBHOOKS, "vcohort.kb.io"}
# Rights over kinds of other projects are left out.
API_GROUPS = {
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "batch",
    "coordination.k8s.io",
    "kueue.x-k8s.io",
    "node.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
}
UPSTREAM = json.loads(Path(__file__).with_name("kueue_upstream.json").read_text())


def controller(spec: BatchQueuesSpec) -> list[dict[str, Any]]:
    """In the order they are applied: the Deployment is last, and ready once the webhooks answer."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": LABELS}},
        *(_kind(manifest) for manifest in _upstream("CustomResourceDefinition")),
        _named("v1", "ServiceAccount", NAME),
        *(found for role in _upstream("ClusterRole", "Role") for found in _role(role)),
        # Kueue fills it, and renews what is in it.
        _named("v1", "Secret", CERTIFICATE),
        _configuration(spec),
        _service(),
        *(_webhooks(spec, found) for found in _upstream(*_WEBHOOK_KINDS)),
        _deployment(spec),
    ]


_WEBHOOK_KINDS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


def _upstream(*kinds: str) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(found)) for found in UPSTREAM if found["kind"] in kinds]


def _named(api_version: str, kind: str, name: str, **rest: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE, "labels": LABELS}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def _kind(manifest: dict[str, Any]) -> dict[str, Any]:
    if "conversion" in manifest["spec"]:
        reached = manifest["spec"]["conversion"]["webhook"]["clientConfig"]["service"]
        reached.update(name=SERVICE, namespace=NAMESPACE)
    return manifest


def _role(role: dict[str, Any]) -> list[dict[str, Any]]:
    """A role of upstream's, and its binding to Kueue."""
    name = f"{PREFIX}-{role['metadata']['name']}"
    inside = {"namespace": NAMESPACE} if role["kind"] == "Role" else {}
    metadata = {"name": name, **inside, "labels": LABELS}
    rules = [rule for rule in role["rules"] if set(rule["apiGroups"]) <= API_GROUPS]
    binding = {
        "apiVersion": role["apiVersion"],
        "kind": f"{role['kind']}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    }
    return [{**role, "metadata": metadata, "rules": rules}, binding]


def _webhooks(spec: BatchQueuesSpec, configuration: dict[str, Any]) -> dict[str, Any]:
    """Those of what is switched on; runs' jobs only in the namespace of the runs."""
    wanted = [found for found in configuration["webhooks"] if found["name"] in WEBHOOKS]
    for webhook in wanted:
        webhook["clientConfig"]["service"].update(name=SERVICE, namespace=NAMESPACE)
        if webhook["name"] in JOBS:
            webhook["namespaceSelector"] = {"matchLabels": _only(spec.namespace)}
    name = f"{PREFIX}-{configuration['metadata']['name']}"
    return {**configuration, "metadata": {"name": name, "labels": LABELS}, "webhooks": wanted}


def _only(namespace: str) -> dict[str, str]:
    return {"kubernetes.io/metadata.name": namespace}


def _configuration(spec: BatchQueuesSpec) -> dict[str, Any]:
    """Kueue reads its file once: another file means another pod."""
    metadata = _named("v1", "ConfigMap", CONFIGURATION)["metadata"]
    return settings(metadata, {FILE: json.dumps(_settings(spec), indent=2)})


def _settings(spec: BatchQueuesSpec) -> dict[str, Any]:
    """Source: apis/config/v1beta2 of Kueue's module."""
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "namespace": NAMESPACE,
        "health": {"healthProbeBindAddress": f":{HEALTH_PORT}"},
        "metrics": {"bindAddress": f":{METRICS_PORT}"},
        "webhook": {"port": WEBHOOK_PORT, "certDir": CERTIFICATES},
        "leaderElection": {"leaderElect": True, "resourceNamespace": NAMESPACE},
        "internalCertManagement": {
            "enable": True,
            "webhookServiceName": SERVICE,
            "webhookSecretName": CERTIFICATE,
        },
        "integrations": {"frameworks": ["batch/job"]},
        # A Job that names no queue would take what others wait for: it stays suspended.
        "manageJobsWithoutQueueName": True,
        "managedJobsNamespaceSelector": {"matchLabels": _only(spec.namespace)},
        # A run whose pod does not start gives its place back, and is given up after five times.
        "waitForPodsReady": {
            "timeout": "30m",
            "recoveryTimeout": "10m",
            "requeuingStrategy": {"backoffLimitCount": 5},
        },
        # Their servers and kinds are not installed: each is one more API, and more memory.
        "featureGates": {"VisibilityOnDemand": False, "MultiKueue": False},
    }


def _service() -> dict[str, Any]:
    manifest = _named(
        "v1",
        "Service",
        SERVICE,
        spec={"selector": LABELS, "ports": [{"port": 443, "targetPort": WEBHOOK_PORT}]},
    )
    # Applied before its pods exist; the Deployment is what is waited for.
    manifest["metadata"]["annotations"] = {"pulumi.com/skipAwait": "true"}
    return manifest


def _deployment(spec: BatchQueuesSpec) -> dict[str, Any]:
    return _named(
        "apps/v1",
        "Deployment",
        NAME,
        spec={
            "replicas": 1,
            "revisionHistoryLimit": REVISIONS_KEPT,
            "selector": {"matchLabels": LABELS},
            # The next one answers the webhooks before the last one is gone.
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": LABELS}, "spec": _pod(spec)},
        },
    )


def _pod(spec: BatchQueuesSpec) -> dict[str, Any]:
    return {
        "serviceAccountName": NAME,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        # Without it no run starts or ends its turn; it must not make way for one.
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {POOL_LABEL: spec.pool},
        **({"tolerations": [toleration(taint) for taint in spec.taints]} if spec.taints else {}),
        "securityContext": unprivileged(USER),
        "containers": [_container(spec)],
        "volumes": [
            {"name": "configuration", "configMap": {"name": _configuration(spec)["metadata"]["name"]}},
            {"name": "certificate", "secret": {"secretName": CERTIFICATE}},
        ],
    }


def _container(spec: BatchQueuesSpec) -> dict[str, Any]:
    return {
        "name": "manager",
        "image": spec.image,
        "args": [f"--config=/etc/kueue/{FILE}", "--zap-log-level=2"],
        "ports": [
            {"name": "webhook", "containerPort": WEBHOOK_PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        "startupProbe": {**_probe("/healthz"), "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**_probe("/readyz"), "periodSeconds": 5},
        "livenessProbe": {**_probe("/healthz"), "periodSeconds": 20, "timeoutSeconds": 5},
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"memory": quantity(spec.memory)},
        },
        "securityContext": locked_down(),
        "volumeMounts": [
            {"name": "configuration", "mountPath": "/etc/kueue", "readOnly": True},
            {"name": "certificate", "mountPath": CERTIFICATES, "readOnly": True},
        ],
    }


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": HEALTH_PORT}}
