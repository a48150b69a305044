"""Keys, certificates and passwords of the lab: made once, kept while they fit, never printed.

<state>/pki/ca.{crt,key}            signs everything below
<state>/pki/<name>.{crt,key}        hypervisor (server), admin (client of the hypervisor)
<state>/pki/images.key{,.pub}       where the site file says so: signs boot images
<state>/bmc/<xname>/tls.{crt,key}   one per BMC, valid for its address and its name
<state>/database/tls.{crt,key}      of PostgreSQL, where a gateway has one
"""

import base64
import datetime
import ipaddress
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab import database
from lab.plan import LabPlan
from sitewright.artifacts import signing
from sitewright.errors import SitewrightError

VALID_DAYS = 825
RENEW_DAYS = 30  # a certificate with fewer days left is made anew
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


def create(plan: LabPlan) -> None:
    """Make what is missing or no longer fits (addresses changed, about to expire)."""
    state, site = plan.state, plan.site
    pki = Authority(state / "pki")
    if site.ssh:
        _ssh_key(Path(site.ssh.private_key))
    if site.hypervisor:
        pki.issue("hypervisor", SERVER, "hypervisor", [plan.gateway, "127.0.0.1", "localhost"])
        pki.issue("admin", CLIENT, "admin", organization="system:masters")
        _service_account_key(state / "pki/service-accounts.key")
        host, port = plan.hypervisor_api
        outside = pki.kubeconfig("admin", plan.hypervisor_url, embedded=True)
        write_secret(Path(site.hypervisor.kubeconfig), outside)
        inside = pki.kubeconfig("admin", f"https://{host}:{port}", embedded=False)
        write_secret(state / "pki/hypervisor-inside.kubeconfig", inside)
    if site.image_server and site.image_server.signing_key:
        _signing_key(Path(site.image_server.signing_key))
    if site.bmc:
        _password(Path(site.bmc.password_file))
        for xname, address in plan.bmcs.items():
            pki.issue("tls", SERVER, xname, [address, "127.0.0.1", xname], directory=state / "bmc" / xname)
        if site.bmc.ca_file:
            pki.publish(Path(site.bmc.ca_file))
    if wanted := plan.wanted_database:
        _password(Path(wanted.password_file))
        hosts = [plan.database[0], "127.0.0.1"]
        pki.issue("tls", SERVER, "database", hosts, directory=database.directory())
        pki.publish(Path(wanted.ca_file))


class Authority:
    """The lab's certificate authority, in a directory; made when it is not there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        key_file, certificate_file = directory / "ca.key", directory / "ca.crt"
        if not (key_file.is_file() and certificate_file.is_file()):
            key = ec.generate_private_key(ec.SECP256R1())
            write_secret(key_file, _pem(key))
            _write(certificate_file, _sign_ca(key).public_bytes(serialization.Encoding.PEM), 0o644)
        self._key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        self._certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())

    def issue(
        self,
        name: str,
        usage: x509.ObjectIdentifier,
        common_name: str,
        hosts: Iterable[str] = (),
        organization: str = "",
        directory: Path | None = None,
    ) -> None:
        """Write <name>.crt and <name>.key, unless those that are there still fit.
        hosts: addresses and names that the certificate is valid for."""
        directory = directory or self.directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        key_file, certificate_file = directory / f"{name}.key", directory / f"{name}.crt"
        wanted = _names(hosts)
        if key_file.is_file() and certificate_file.is_file():
            found = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            if self._still_fits(found, wanted):
                return
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key.public_key(), _subject(common_name, organization), usage, wanted)
        write_secret(key_file, _pem(key))
        _write(certificate_file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)

    def publish(self, file: Path) -> None:
        """The authority's certificate, for those that have to trust what it signs."""
        _write(file, (self.directory / "ca.crt").read_bytes(), 0o644)

    def kubeconfig(self, user: str, server: str, embedded: bool) -> bytes:
        """A kubeconfig (JSON is YAML) that logs in with the client certificate of `user`.
        embedded: the keys are in it, else it names their files."""
        of_cluster = {"certificate-authority": self.directory / "ca.crt"}
        of_user = {
            "client-certificate": self.directory / f"{user}.crt",
            "client-key": self.directory / f"{user}.key",
        }
        # Not every client resolves relative names: kopf takes them as they are.
        write = _embedded if embedded else _named
        cluster, login = {"server": server, **write(of_cluster)}, write(of_user)
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "lab-hypervisor", "cluster": cluster}],
                "users": [{"name": user, "user": login}],
                "contexts": [
                    {"name": "lab-hypervisor", "context": {"cluster": "lab-hypervisor", "user": user}}
                ],
                "current-context": "lab-hypervisor",
            },
            indent=2,
        ).encode()

    def _still_fits(self, certificate: x509.Certificate, wanted: list[x509.GeneralName]) -> bool:
        left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        found: list[x509.GeneralName] = []
        if wanted:
            try:
                extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            except x509.ExtensionNotFound:
                return False
            found = list(extension.value)
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except Exception:  # of several types: another authority, a broken signature, another kind of key
            return False
        return found == wanted and left > datetime.timedelta(days=RENEW_DAYS)

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        names: list[x509.GeneralName],
    ) -> x509.Certificate:
        builder = (
            _builder(subject, self._certificate.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._certificate.public_key()),  # type: ignore[arg-type]
                critical=False,
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())  # type: ignore[arg-type]


def write_secret(file: Path, content: bytes) -> None:
    """Write a file that only root can read, from its first byte on."""
    _write(file, content, 0o600)


def _write(file: Path, content: bytes, mode: int) -> None:
    """Whole or not at all: a lab that is killed here must not find half a key later."""
    if file.is_file() and file.read_bytes() == content and file.stat().st_mode & 0o777 == mode:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(content)
    scratch.rename(file)


def _ssh_key(file: Path) -> None:
    public = file.with_name(f"{file.name}.pub")
    if file.is_file() and public.is_file():
        return
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ed25519.Ed25519PrivateKey.generate()
    openssh = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    write_secret(file, openssh)
    _write(public, line + b" sitewright-lab\n", 0o644)


def _service_account_key(file: Path) -> None:
    """kube-apiserver wants a key to sign service accounts with; RSA is what every client reads."""
    if not file.is_file():
        write_secret(file, _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))


def _signing_key(path: Path) -> None:
    if not (path.is_file() and signing.public_path(path).is_file()):
        path.unlink(missing_ok=True)
        signing.create(path)


def _password(file: Path) -> None:
    if not file.is_file() or not file.read_text().strip():
        write_secret(file, secrets.token_urlsafe(24).encode() + b"\n")
    if file.stat().st_mode & 0o077:
        raise SitewrightError(
            f"{file}: others than its owner may read this password", f"Run `chmod 600 {file}`."
        )


def _sign_ca(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    subject = _subject("sitewright lab")
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _builder(subject, subject, key.public_key(), days=10 * 365)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int = VALID_DAYS
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # machines whose clock is a little behind
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _subject(common_name: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _embedded(files: dict[str, Path]) -> dict[str, str]:
    return {f"{key}-data": base64.b64encode(file.read_bytes()).decode() for key, file in files.items()}


def _named(files: dict[str, Path]) -> dict[str, str]:
    return {key: str(file) for key, file in files.items()}
