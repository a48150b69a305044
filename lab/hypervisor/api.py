"""The few calls of the Kubernetes API that the controller needs, as plain dictionaries."""

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml

from sitewright.errors import SitewrightError

Object = dict[str, Any]


class Key(NamedTuple):
    """Name of an object within its kind; the namespace of a cluster-wide object is empty."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True)
class Kind:
    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        root = "/apis" if "/" in self.api_version else "/api"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        ends = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{root}/{self.api_version}{scope}/{self.plural}{ends}"


VIRTUAL_MACHINE = Kind("kubevirt.io/v1", "VirtualMachine", "virtualmachines")
INSTANCE = Kind("kubevirt.io/v1", "VirtualMachineInstance", "virtualmachineinstances")
IMAGE = Kind("harvesterhci.io/v1beta1", "VirtualMachineImage", "virtualmachineimages")
KEY_PAIR = Kind("harvesterhci.io/v1beta1", "KeyPair", "keypairs")
CLUSTER_NETWORK = Kind(
    "network.harvesterhci.io/v1beta1", "ClusterNetwork", "clusternetworks", namespaced=False
)
VLAN_CONFIG = Kind("network.harvesterhci.io/v1beta1", "VlanConfig", "vlanconfigs", namespaced=False)
NETWORK = Kind("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", "network-attachment-definitions")
IP_POOL = Kind("loadbalancer.harvesterhci.io/v1beta1", "IPPool", "ippools", namespaced=False)
LOAD_BALANCER = Kind("loadbalancer.harvesterhci.io/v1beta1", "LoadBalancer", "loadbalancers")
CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
SECRET = Kind("v1", "Secret", "secrets")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
STORAGE_CLASS = Kind("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False)
DEFINITION = Kind(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
_ADMISSION = "admissionregistration.k8s.io/v1"
POLICY = Kind(_ADMISSION, "ValidatingAdmissionPolicy", "validatingadmissionpolicies", namespaced=False)
POLICY_BINDING = Kind(
    _ADMISSION, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", namespaced=False
)


class ApiError(SitewrightError):
    """The API refused a call. status: of HTTP; 0: it did not answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Conflict(ApiError):
    """The object has changed since it was read, or is there already."""


class Api:
    """A connection to the API server that a kubeconfig names. Safe to use from several threads."""

    def __init__(self, kubeconfig: Path) -> None:
        cluster, user = _current_context(kubeconfig)
        headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        self._http = httpx.Client(
            base_url=cluster["server"],
            verify=_tls(kubeconfig.parent, cluster, user),
            headers=headers,
            timeout=20,
            trust_env=False,  # a proxy of the host knows no way into the lab
            limits=httpx.Limits(max_connections=40),
        )

    def get(self, kind: Kind, key: Key) -> Object | None:
        return self._call("GET", kind.path(*key), absent_ok=True)

    def list(self, kind: Kind, namespace: str = "") -> list[Object]:
        return (self._call("GET", kind.path(namespace)) or {}).get("items", [])

    def create(self, kind: Kind, body: Object) -> Object:
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        return self._call("POST", kind.path(body["metadata"].get("namespace", "")), body) or {}

    def create_if_absent(self, kind: Kind, body: Object) -> None:
        try:
            self.create(kind, body)
        except Conflict:
            return

    def patch(self, kind: Kind, key: Key, change: Mapping[str, Any], subresource: str = "") -> Object | None:
        """Merge the change into the object; a None removes its key. Returns the result, None where it is gone."""
        return self._call("PATCH", kind.path(*key, subresource), change, absent_ok=True)

    def apply(self, kind: Kind, key: Key, body: Object) -> None:
        """Make the object so (server-side apply), whether it is there or not."""
        query = "?fieldManager=lab-hypervisor&force=true"
        self._call("PATCH", kind.path(*key) + query, body, content_type="application/apply-patch+yaml")

    def replace(self, kind: Kind, key: Key, body: Object, subresource: str = "") -> None:
        self._call("PUT", kind.path(*key, subresource), body)

    def delete(self, kind: Kind, key: Key) -> None:
        self._call("DELETE", kind.path(*key), absent_ok=True)

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        absent_ok: bool = False,
        content_type: str = "application/merge-patch+json",
    ) -> Object | None:
        headers = {"Content-Type": content_type} if method == "PATCH" else None
        try:
            answer = self._http.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as problem:
            raise ApiError(
                0, f"the hypervisor's API at {self._http.base_url} does not answer: {problem}"
            ) from problem
        if answer.status_code == 404 and absent_ok:
            return None
        if answer.is_error:
            error = Conflict if answer.status_code == httpx.codes.CONFLICT else ApiError
            raise error(answer.status_code, f"{method} {path}: {_reason(answer)}")
        return answer.json()


def key_of(body: Mapping[str, Any]) -> Key:
    return Key(body["metadata"].get("namespace", ""), body["metadata"]["name"])


def is_deleting(body: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" in body["metadata"]


def add_finalizer(api: Api, kind: Kind, body: Object, finalizer: str) -> Object | None:
    """The object, held by `finalizer` until `remove_finalizer`. None where it vanished meanwhile."""
    present = body["metadata"].get("finalizers", [])
    return body if finalizer in present else _set_finalizers(api, kind, body, [*present, finalizer])


def remove_finalizer(api: Api, kind: Kind, body: Object, finalizer: str) -> None:
    present = body["metadata"].get("finalizers", [])
    if finalizer in present:
        _set_finalizers(api, kind, body, [name for name in present if name != finalizer])


def _set_finalizers(api: Api, kind: Kind, body: Object, finalizers: list[str]) -> Object | None:
    """With the version seen: a finalizer that somebody added meanwhile raises a conflict and is not lost."""
    change = {"metadata": {"finalizers": finalizers, "resourceVersion": body["metadata"]["resourceVersion"]}}
    return api.patch(kind, key_of(body), change)


def _reason(answer: httpx.Response) -> str:
    try:
        return answer.json()["message"]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"


def _current_context(kubeconfig: Path) -> tuple[Object, Object]:
    """The cluster and the user the kubeconfig's current context names."""
    try:
        config = yaml.safe_load(kubeconfig.read_text())
        named = {
            section: {entry["name"]: entry[section[:-1]] for entry in config[section]}
            for section in ("contexts", "clusters", "users")
        }
        context = named["contexts"][config["current-context"]]
        return named["clusters"][context["cluster"]], named["users"][context["user"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as problem:
        raise SitewrightError(
            f"{kubeconfig} is not a usable kubeconfig: {type(problem).__name__} {problem}",
            "`sitewright lab up` writes it.",
        ) from problem


def _tls(directory: Path, cluster: Object, user: Object) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if "certificate-authority-data" in cluster:
        context.load_verify_locations(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    elif "certificate-authority" in cluster:
        context.load_verify_locations(directory / cluster["certificate-authority"])
    elif cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if "client-certificate" in user:
        context.load_cert_chain(directory / user["client-certificate"], directory / user["client-key"])
    return context
