"""What a node may ask for: a client certificate of its own name, and nothing else."""

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from modules.nodes.node_identity_service.refusals import BAD_REQUEST, OTHER_NAME, Refused

PREFIX, GROUP = "system:node:", "system:nodes"


def check(pem: str, xname: str) -> str:
    """Returns: the SHA-256 of the request, 64 hex digits, which names it from here on.

    The subject must be that of the node `xname` and be all there is: the signer of the cluster would also take a
    request for another node. Source: Kubernetes documentation, Certificate Signing Requests, signer
    `kubernetes.io/kube-apiserver-client-kubelet`.
    Raises: Refused.
    """
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
        signed = request.is_signature_valid
        extensions = len(request.extensions)
        subject = [(name.oid, name.value) for name in request.subject]
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.DuplicateExtension) as error:
        raise Refused(BAD_REQUEST, "what was sent is not a certificate request in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Refused(BAD_REQUEST, "the key is not one of the curve P-256")
    if not signed:
        raise Refused(BAD_REQUEST, "the request is not signed with its own key")
    if extensions:
        raise Refused(BAD_REQUEST, "the request carries extensions; that of a node carries none")
    wanted = [(NameOID.ORGANIZATION_NAME, GROUP), (NameOID.COMMON_NAME, PREFIX + xname)]
    if sorted(subject, key=str) != sorted(wanted, key=str):
        raise Refused(OTHER_NAME, f"the request is not for exactly {PREFIX}{xname} in {GROUP}")
    return hashlib.sha256(pem.encode()).hexdigest()
