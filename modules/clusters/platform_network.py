"""Pod routes and network policies by kube-router, Services by kube-proxy."""

from typing import Any

import yaml

from modules.clusters.platform_parts import (
    NAMESPACE,
    PlatformSpec,
    account,
    api,
    binding,
    daemon_set,
    rule,
    service_account,
)


def kube_router(spec: PlatformSpec) -> list[dict[str, Any]]:
    rules = [
        rule("", ["namespaces", "pods", "services", "nodes", "endpoints"], ["list", "get", "watch"]),
        rule("networking.k8s.io", ["networkpolicies"], ["list", "get", "watch"]),
        rule("discovery.k8s.io", ["endpointslices"], ["list", "get", "watch"]),
        rule("", ["services/status", "nodes"], ["update", "patch"]),
        rule("coordination.k8s.io", ["leases"], ["get", "create", "update", "list", "watch"]),
        rule("apiextensions.k8s.io", ["customresourcedefinitions"], ["get"]),
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
            *api(spec),
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
    return [*account("kube-router", rules), daemon_set("kube-router", container, volumes)]


def kube_proxy(spec: PlatformSpec) -> list[dict[str, Any]]:
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
            *api(spec),
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
    bound = binding("kube-proxy", "system:node-proxier")
    return [
        service_account("kube-proxy"),
        bound,
        config_map,
        daemon_set("kube-proxy", container, volumes),
    ]
