"""What the programs of a cluster's platform have in common: their spec, where the API server is, their rights."""

from ipaddress import IPv4Address, IPv4Network
from typing import Any

from pydantic import Field

from modules.spec import Model

NAMESPACE = "kube-system"


class PlatformSpec(Model):
    endpoint: IPv4Address = Field(
        description="of the API server; must not depend on the Services it brings up"
    )
    port: int = 6443
    pod_cidr: IPv4Network
    service_cidr: IPv4Network
    dns_address: IPv4Address
    images: dict[str, str] = Field(description="kube-router, kube-proxy and coredns by digest")


def api(spec: PlatformSpec) -> list[dict[str, str]]:
    """Where the API server is, without asking the Services that these programs bring up."""
    return [
        {"name": "KUBERNETES_SERVICE_HOST", "value": str(spec.endpoint)},
        {"name": "KUBERNETES_SERVICE_PORT", "value": str(spec.port)},
    ]


def daemon_set(name: str, container: dict[str, Any], volumes: list[dict[str, Any]]) -> dict[str, Any]:
    labels = {"k8s-app": name}
    pod = {
        "serviceAccountName": name,
        "priorityClassName": "system-node-critical",
        "hostNetwork": True,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": volumes,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": labels,
            # Where there are thousands of nodes, one is always not Ready. Who needs a node waits for that node.
            "annotations": {"pulumi.com/skipAwait": "true"},
        },
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def account(name: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"sitewright:{name}"},
        "rules": rules,
    }
    return [service_account(name), role, binding(name, f"sitewright:{name}")]


def service_account(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": NAMESPACE},
    }


def binding(name: str, role: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"sitewright:{name}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
    }


def rule(group: str, resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}
