"""Has a node's certificate request signed, for exactly that node's name.

Source: Kubernetes documentation, Certificate Signing Requests, signer
`kubernetes.io/kube-apiserver-client-kubelet`.
"""

from __future__ import annotations

import base64
import time
from typing import Any

import yaml
from ansible.module_utils.basic import AnsibleModule
from cryptography import x509
from cryptography.x509.oid import NameOID
from kubernetes import client, config

DOCUMENTATION = """
module: sign_node_request
short_description: get a kubelet's client certificate from a request the node made
options:
  node: {description: name of the node, type: str, required: true}
  request: {description: the request in PEM, type: str, required: true}
  kubeconfig: {description: text of an administrator's kubeconfig, type: str, required: true}
  timeout: {description: seconds to wait for the certificate, type: int, default: 60}
"""

SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"


def refusal(node: str, pem: str) -> str | None:
    """Why this request may not be signed for `node`; None if it may."""
    try:
        request = x509.load_pem_x509_csr(pem.encode())
    except ValueError:
        return f"{node}: what the node sent is not a certificate request in PEM"
    if not request.is_signature_valid:
        return f"{node}: the request is not signed with its own key"
    names = [a.value for a in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [a.value for a in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if names != [f"system:node:{node}"] or groups != ["system:nodes"]:
        return f"{node}: the request asks for {names} in {groups}, not for system:node:{node} in system:nodes"
    if len(request.extensions):
        return f"{node}: the request carries extensions, a node's request carries none"
    return None


def sign(api: client.CertificatesV1Api, node: str, pem: str, timeout: int) -> str:
    """The certificate in PEM. Raises TimeoutError if the signer does not answer."""
    created = api.create_certificate_signing_request(
        {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"generateName": f"{node}-"},
            "spec": {
                "request": base64.b64encode(pem.encode()).decode(),
                "signerName": SIGNER,
                "usages": ["digital signature", "client auth"],
            },
        }
    )
    approved = {
        "type": "Approved",
        "status": "True",
        "reason": "SitewrightJoin",
        "message": "asked for by the node of this name, over ssh",
    }
    # A patch, because the cluster may touch the request at the same moment.
    api.patch_certificate_signing_request_approval(
        created.metadata.name, {"status": {"conditions": [approved]}}
    )
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        certificate = api.read_certificate_signing_request(created.metadata.name).status.certificate
        if certificate:
            return base64.b64decode(certificate).decode()
        time.sleep(0.1)
    raise TimeoutError(f"{node}: the cluster did not sign {created.metadata.name} within {timeout} s")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "node": {"type": "str", "required": True},
            "request": {"type": "str", "required": True},
            "kubeconfig": {"type": "str", "required": True, "no_log": True},
            "timeout": {"type": "int", "default": 60},
        }
    )
    given: dict[str, Any] = module.params
    reason = refusal(given["node"], given["request"])
    if reason:
        module.fail_json(msg=reason)
    connection = config.new_client_from_config_dict(yaml.safe_load(given["kubeconfig"]))
    try:
        certificate = sign(
            client.CertificatesV1Api(connection), given["node"], given["request"], given["timeout"]
        )
    except (client.ApiException, TimeoutError, OSError) as error:
        module.fail_json(msg=f"{given['node']}: the certificate request was not signed: {error}")
    module.exit_json(changed=True, certificate=certificate)


if __name__ == "__main__":
    main()
