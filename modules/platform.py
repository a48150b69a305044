"""What makes a bare control plane usable: pod routes and network policies, Services, names.

kube-router carries pod routes (BGP between nodes of one network, no overlay) and enforces NetworkPolicy;
kube-proxy serves Services with nftables; CoreDNS answers names. RKE2 brings its own and needs none of this.
"""

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pulumi
import yaml
from pydantic import Field

from modules.manifest import Manifest
from modules.spec import Model

NAMESPACE = "kube-system"
IMAGES = ("kube-router", "kube-proxy", "coredns")


class PlatformSpec(Model):
    endpoint: IPv4Address = Field(
        description="of the API server; must not depend on the Services it brings up"
    )
    port: int = 6443
    pod_cidr: IPv4Network
    service_cidr: IPv4Network
    dns_address: IPv4Address
    images: dict[str, str] = Field(description="kube-router, kube-proxy and coredns by digest")


def render(spec: PlatformSpec) -> list[dict[str, Any]]:
    """All manifests, in the order they are applied."""
    return [*_kube_router(spec), *_kube_proxy(spec), *_coredns(spec)]


class Platform(pulumi.ComponentResource):
    """Pods reach each other, Services and names once `ready` are there.

    images: references by digest; known only once the registry is filled.
    """

    def __init__(
        self,
        name: str,
        spec: PlatformSpec,
        images: pulumi.Input[dict[str, str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("sitewright:modules:Platform", name, None, opts)
        references = pulumi.Output.from_input(images)
        self.ready: list[pulumi.Resource] = []
        for manifest in render(spec):
            _replace_image(manifest, references)
            identity = f"{manifest['kind']}-{manifest['metadata']['name']}".lower()
            self.ready.append(
                Manifest(
                    manifest, f"{name}-{identity.replace(':', '-')}", pulumi.ResourceOptions(parent=self)
                )
            )
        self.register_outputs({})


def _replace_image(manifest: dict[str, Any], images: pulumi.Output[dict[str, str]]) -> None:
    """Each container is named like the image it runs."""
    template = manifest.get("spec", {}).get("template")
    for container in template["spec"]["containers"] if template else ():
        container["image"] = images[container["name"]]


def _kube_router(spec: PlatformSpec) -> list[dict[str, Any]]:
    rules = [
        _rule("", ["namespaces", "pods", "services", "nodes", "endpoints"], ["list", "get", "watch"]),
        _rule("networking.k8s.io", ["networkpolicies"], ["list", "get", "watch"]),
        _rule("discovery.k8s.io", ["endpointslices"], ["list", "get", "watch"]),
        _rule("", ["services/status", "nodes"], ["update", "patch"]),
        _rule("coordination.k8s.io", ["leases"], ["get", "create", "update", "list", "watch"]),
        _rule("apiextensions.k8s.io", ["customresourcedefinitions"], ["get"]),
    ]
    container = {
        "name": "kube-router",
        "image": spec.images["kube-router"],
        "command": ["kube-router"],
        "args": [
            "--run-router=true",
            "--run-firewall=true",
            "--run-service-proxy=false",
            "--enable-overlay=false",
            "--bgp-graceful-restart=true",
            f"--service-cluster-ip-range={spec.service_cidr}",
            "--health-port=20244",
            "--metrics-port=0",
        ],
        "env": [
            *_api(spec),
            {
                "name": "NODE_NAME",
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}},
            },
            {"name": "KUBE_ROUTER_CNI_CONF_FILE", "value": "/etc/cni/net.d/10-kube-router.conflist"},
        ],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 20244}, "periodSeconds": 3},
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": 20244},
            "initialDelaySeconds": 10,
            "periodSeconds": 15,
        },
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        "securityContext": {"privileged": True},
        "volumeMounts": [
            {"name": "cni", "mountPath": "/etc/cni/net.d"},
            {"name": "xtables-lock", "mountPath": "/run/xtables.lock"},
        ],
    }
    volumes = [
        {"name": "cni", "hostPath": {"path": "/etc/cni/net.d", "type": "DirectoryOrCreate"}},
        {"name": "xtables-lock", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}},
    ]
    return [*_account("kube-router", rules), _daemon_set("kube-router", container, volumes)]


def _kube_proxy(spec: PlatformSpec) -> list[dict[str, Any]]:
    configuration = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": str(spec.pod_cidr),
        # 0: leave the kernel's limits alone, they belong to the machine's image.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    }
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kube-proxy", "namespace": NAMESPACE},
        # kubeadm reads this key of this ConfigMap when one more control plane joins, and stops where it lacks it.
        "data": {"config.conf": yaml.safe_dump(configuration)},
    }
    container = {
        "name": "kube-proxy",
        "image": spec.images["kube-proxy"],
        "command": ["kube-proxy"],
        "args": ["--config=/etc/kube-proxy/config.conf", "--hostname-override=$(NODE_NAME)"],
        "env": [
            *_api(spec),
            {
                "name": "NODE_NAME",
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}},
            },
        ],
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
        "securityContext": {"privileged": True},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/kube-proxy"}],
    }
    volumes = [{"name": "config", "configMap": {"name": "kube-proxy"}}]
    binding = _binding("kube-proxy", "system:node-proxier")
    return [
        _service_account("kube-proxy"),
        binding,
        config_map,
        _daemon_set("kube-proxy", container, volumes),
    ]


def _coredns(spec: PlatformSpec) -> list[dict[str, Any]]:
    rules = [
        _rule("", ["endpoints", "services", "pods", "namespaces"], ["list", "watch"]),
        _rule("discovery.k8s.io", ["endpointslices"], ["list", "watch"]),
    ]
    labels = {"k8s-app": "kube-dns"}
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "coredns", "namespace": NAMESPACE},
        "data": {"Corefile": _COREFILE},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "clusterIP": str(spec.dns_address),
            "selector": labels,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            ],
        },
    }
    # Names must go on being answered while nodes are drained one by one.
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "coredns", "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "maxUnavailable": 1,
            # A CoreDNS that crashes in a loop must not block every drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": labels},
        },
    }
    deployment = _coredns_deployment(spec, labels)
    return [*_account("coredns", rules), config_map, budget, deployment, service]


def _coredns_deployment(spec: PlatformSpec, labels: dict[str, str]) -> dict[str, Any]:
    container = {
        "name": "coredns",
        "image": spec.images["coredns"],
        "args": ["-conf", "/etc/coredns/Corefile"],
        "env": _api(spec),
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 3},
        "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 15},
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "170Mi"}},
        # As in Kubernetes' own manifest, cluster/addons/dns/coredns.
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
    }
    pod = {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels},
            }
        ],
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "coredns", "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


_COREFILE = """\
.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }
    cache 30
    loop
    reload
    loadbalance
}
"""


def _api(spec: PlatformSpec) -> list[dict[str, str]]:
    """Where the API server is, without asking the Services that these programs bring up."""
    return [
        {"name": "KUBERNETES_SERVICE_HOST", "value": str(spec.endpoint)},
        {"name": "KUBERNETES_SERVICE_PORT", "value": str(spec.port)},
    ]


def _daemon_set(name: str, container: dict[str, Any], volumes: list[dict[str, Any]]) -> dict[str, Any]:
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


def _account(name: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"sitewright:{name}"},
        "rules": rules,
    }
    return [_service_account(name), role, _binding(name, f"sitewright:{name}")]


def _service_account(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": NAMESPACE},
    }


def _binding(name: str, role: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"sitewright:{name}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
    }


def _rule(group: str, resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}
