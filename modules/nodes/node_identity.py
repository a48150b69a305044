"""Who a diskless node is: a service on each control plane that gives a node that boots a certificate of its name.

A node has nothing of its own when it boots, so nothing that it says is believed. It gets a certificate because the
provisioner knows its address, because it has just fetched its boot script (or, where nobody notes that, has just said
that it boots), because no kubelet runs there yet, and once per boot. docs/node-identity.md says what that keeps out and
what not.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
from pydantic import Field

from modules.clusters.kubernetes_cluster import API_PORT
from modules.inference.serving import locked_down, settings, unprivileged
from modules.manifest import Manifest
from modules.spec import DNS_LABEL, MEBI, Model, quantity

NAME = NAMESPACE = "node-identity"
PORT = 9444
PROGRAM_PATH, TOKEN_PATH, TLS_PATH, RKE2_PATH = "/program", "/run/provisioner", "/run/tls", "/run/rke2"
RKE2_SECRET = f"{NAME}-rke2"
TLS_HOST_PATH = "/etc/kubernetes/pki/node-identity"  # role control_plane makes key and certificate there
LABELS = {"app.kubernetes.io/name": NAME}
MEMORY = 160 * MEBI
SERVICE = Path(__file__).with_name("node_identity_service")
PROGRAMS = {file.name: file.read_text(encoding="utf-8") for file in sorted(SERVICE.glob("*.py"))}
RBAC = "rbac.authorization.k8s.io"
SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"


class NodeIdentitySpec(Model):
    pools: tuple[str, ...] = Field(min_length=1, description="of this cluster; their groups in SMD")
    smd: str = Field(pattern=r"^https?://\S+$", description="base URL as the control plane reaches it")
    bss: str | None = Field(
        pattern=r"^https?://\S+$",
        description="base URL as the control plane reaches it; None: boot-service, nodes give notice of boots",
    )
    image: str = Field("", description="known once the registry is filled")
    has_token: bool = Field(False, description="the provisioner asks for a JWT")
    rke2: bool = Field(False, description="its nodes run RKE2's agent, and get what that joins with")
    boot_seconds: int = Field(
        900, ge=60, le=86400, description="how long after its boot script, or its notice, a node may ask"
    )
    certificate_seconds: int = Field(
        7 * 86400, ge=3600, description="a kubelet renews its certificate when four fifths of this are over"
    )
    requests_per_minute: int = Field(20, ge=4, description="of one address, at one replica")
    namespace: str = Field(NAMESPACE, pattern=DNS_LABEL)


def render(spec: NodeIdentitySpec) -> list[dict[str, Any]]:
    """The manifests, in the order they are applied. The Secret with a token is the caller's."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": spec.namespace, "labels": LABELS}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(spec)},
        *_rights(spec),
        _program(spec),
        _daemon_set(spec),
    ]


class NodeIdentity(pulumi.ComponentResource):
    """Answers on each control plane once `ready` are there. image: by digest. token: a JWT, secret; None: none.

    rke2: secrets `agent-token`, which agents join with, and `password-key`, which the passwords of nodes are made
    of; another key is another password of each node, which RKE2 refuses. None: no cluster of RKE2.
    """

    def __init__(
        self,
        name: str,
        spec: NodeIdentitySpec,
        image: pulumi.Input[str],
        token: pulumi.Input[str] | None = None,
        rke2: Mapping[str, pulumi.Input[str]] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("sitewright:modules:NodeIdentity", name, None, opts)
        known = {"has_token": token is not None, "rke2": rke2 is not None}
        namespace, *others = render(spec.model_copy(update=known))
        secrets = [] if token is None else [_secret(spec, NAME, {"token": token})]
        secrets += [] if rke2 is None else [_secret(spec, RKE2_SECRET, rke2)]
        self.ready: list[pulumi.Resource] = []
        for manifest in (namespace, *secrets, *others):
            if manifest["kind"] == "DaemonSet":
                manifest["spec"]["template"]["spec"]["containers"][0]["image"] = image
            again = "-rke2" if manifest["metadata"]["name"] == RKE2_SECRET else ""
            identity = f"{name}-{manifest['kind'].lower()}{again}"
            self.ready.append(Manifest(manifest, identity, pulumi.ResourceOptions(parent=self)))
        self.register_outputs({})


def _rights(spec: NodeIdentitySpec) -> list[dict[str, Any]]:
    """To claim boots in its own namespace, and to approve requests of one signer and of no other."""
    everywhere = [
        _rule("certificates.k8s.io", ["certificatesigningrequests"], ["create", "get"]),
        _rule("certificates.k8s.io", ["certificatesigningrequests/approval"], ["update"]),
        {**_rule("certificates.k8s.io", ["signers"], ["approve"]), "resourceNames": [SIGNER]},
    ]
    here = [_rule("coordination.k8s.io", ["leases"], ["create", "get", "update"])]
    named = {"name": f"sitewright:{NAME}", "labels": LABELS}
    return [
        {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": named, "rules": everywhere},
        _binding("ClusterRole", dict(named), spec),
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": _metadata(spec), "rules": here},
        _binding("Role", _metadata(spec), spec),
    ]


def _rule(group: str, resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _binding(role: str, metadata: dict[str, Any], spec: NodeIdentitySpec) -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": f"{role}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": role, "name": metadata["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": spec.namespace}],
    }


def _secret(spec: NodeIdentitySpec, name: str, data: Mapping[str, pulumi.Input[str]]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**_metadata(spec), "name": name},
        "type": "Opaque",
        "stringData": dict(data),
    }


def _daemon_set(spec: NodeIdentitySpec) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": _metadata(spec),
        "spec": {
            "selector": {"matchLabels": LABELS},
            "revisionHistoryLimit": 0,
            "template": {
                "metadata": {"labels": LABELS},
                "spec": _pod(spec),
            },
        },
    }


def _pod(spec: NodeIdentitySpec) -> dict[str, Any]:
    items = [_item(name) for name in PROGRAMS]
    return {
        "serviceAccountName": NAME,
        "enableServiceLinks": False,
        # The address of who asks must be the node's own: no Service, no load balancer, no pod network in between.
        "hostNetwork": True,
        "affinity": _on_control_planes(),
        "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}],
        # Without it no node comes back.
        "priorityClassName": "system-cluster-critical",
        "securityContext": unprivileged(own_volumes=True),
        "containers": [_container(spec)],
        "volumes": [
            {"name": "program", "configMap": {"name": _program(spec)["metadata"]["name"], "items": items}},
            {"name": "tls", "hostPath": {"path": TLS_HOST_PATH, "type": "Directory"}},
            *([{"name": "token", "secret": {"secretName": NAME}}] if spec.has_token else []),
            *([{"name": "rke2", "secret": {"secretName": RKE2_SECRET}}] if spec.rke2 else []),
        ],
    }


def _on_control_planes() -> dict[str, Any]:
    """By the label's key: kubeadm gives it no value, RKE2 the value `true`."""
    marked = {"matchExpressions": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]}
    required = {"nodeSelectorTerms": [marked]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def _program(spec: NodeIdentitySpec) -> dict[str, Any]:
    return settings(_metadata(spec), PROGRAMS)


def _item(name: str) -> dict[str, str]:
    return {"key": name, "path": f"modules/nodes/{SERVICE.name}/{name}"}


def _container(spec: NodeIdentitySpec) -> dict[str, Any]:
    secrets = [*(["token"] if spec.has_token else []), *(["rke2"] if spec.rke2 else [])]
    paths = {"token": TOKEN_PATH, "rke2": RKE2_PATH}
    return {
        "name": NAME,
        "image": spec.image,
        "command": ["/usr/bin/python3", "-m", f"modules.nodes.{SERVICE.name}.main"],
        "workingDir": PROGRAM_PATH,
        "env": _environment(spec),
        "ports": [{"name": "https", "containerPort": PORT, "hostPort": PORT}],
        "readinessProbe": {"httpGet": _health(), "periodSeconds": 5, "timeoutSeconds": 3},
        "livenessProbe": {
            "httpGet": _health(),
            "periodSeconds": 15,
            "timeoutSeconds": 10,
            "failureThreshold": 4,
        },
        "startupProbe": {"httpGet": _health(), "periodSeconds": 1, "failureThreshold": 60},
        "securityContext": locked_down(),
        "resources": {
            "requests": {"cpu": "50m", "memory": quantity(MEMORY)},
            "limits": {"memory": quantity(MEMORY)},
        },
        "volumeMounts": [
            {"name": "program", "mountPath": PROGRAM_PATH, "readOnly": True},
            {"name": "tls", "mountPath": TLS_PATH, "readOnly": True},
            *({"name": name, "mountPath": paths[name], "readOnly": True} for name in secrets),
        ],
    }


def _health() -> dict[str, Any]:
    return {"path": "/healthz", "port": PORT, "scheme": "HTTPS"}


def _environment(spec: NodeIdentitySpec) -> list[dict[str, Any]]:
    here = {"valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}
    plain = {
        "PORT": str(PORT),
        "NAMESPACE": spec.namespace,
        "SMD": spec.smd.rstrip("/"),
        **({"BSS": spec.bss.rstrip("/")} if spec.bss else {}),
        "POOLS": ",".join(spec.pools),
        "BOOT_SECONDS": str(spec.boot_seconds),
        "CERTIFICATE_SECONDS": str(spec.certificate_seconds),
        "REQUESTS_PER_MINUTE": str(spec.requests_per_minute),
        "TLS_CERTIFICATE": f"{TLS_PATH}/tls.crt",
        "TLS_KEY": f"{TLS_PATH}/tls.key",
        # The API server of the same machine: needs neither kube-proxy nor another control plane.
        "KUBERNETES_SERVICE_PORT": str(API_PORT),
        **({"PROVISIONER_TOKEN_FILE": f"{TOKEN_PATH}/token"} if spec.has_token else {}),
        **({"RKE2_SECRETS": RKE2_PATH, "TLS_CLIENTS": f"{TLS_PATH}/clients.crt"} if spec.rke2 else {}),
    }
    own = [{"name": name, **here} for name in ("ADDRESS", "KUBERNETES_SERVICE_HOST")]
    return [*own, *({"name": name, "value": value} for name, value in plain.items())]


def _metadata(spec: NodeIdentitySpec) -> dict[str, Any]:
    return {"name": NAME, "namespace": spec.namespace, "labels": LABELS}
