"""A request is signed only if it asks for exactly the node's name."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def request(common_name, groups=("system:nodes",), extensions=()):
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, g) for g in groups]
            + [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        )
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def refusal(ansible_module):
    return ansible_module("sign_node_request").refusal


def test_the_nodes_own_name_is_signed(refusal):
    assert refusal("x1000c0s0b0n0", request("system:node:x1000c0s0b0n0")) is None


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        (request("system:node:x1000c0s0b1n0"), "asks for"),
        (request("kubernetes-admin"), "asks for"),
        (request("system:node:x1000c0s0b0n0", groups=("system:nodes", "system:masters")), "system:masters"),
        (request("system:node:x1000c0s0b0n0", groups=("system:masters",)), "system:masters"),
        (request("system:node:x1000c0s0b0n0", groups=()), "not for"),
        (
            request(
                "system:node:x1000c0s0b0n0",
                extensions=[x509.SubjectAlternativeName([x509.DNSName("kubernetes")])],
            ),
            "extensions",
        ),
        (
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            "not a certificate",
        ),
        ("", "not a certificate"),
    ],
)
def test_anything_else_is_refused_by_name(refusal, pem, reason):
    message = refusal("x1000c0s0b0n0", pem)
    assert message.startswith("x1000c0s0b0n0: ")
    assert reason in message
