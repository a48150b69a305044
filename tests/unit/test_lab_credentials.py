"""Keys and certificates of the lab."""

import json
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from lab_site import plan_below

from lab import credentials
from sitewright.errors import SitewrightError


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setenv("SITEWRIGHT_LAB_STATE_DIR", str(tmp_path / "state"))
    return plan_below(tmp_path)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def test_a_second_run_changes_nothing(plan):
    credentials.create(plan)
    first = contents(plan.state)
    credentials.create(plan)
    assert contents(plan.state) == first


def test_nothing_secret_can_be_read_by_others(plan):
    credentials.create(plan)
    public = {".crt", ".pub"}
    exposed = [
        file
        for file in plan.state.rglob("*")
        if file.is_file() and file.suffix not in public and file.stat().st_mode & 0o077
    ]
    assert exposed == []


def test_a_bmc_is_trusted_under_its_address_and_its_name(plan):
    credentials.create(plan)
    found = x509.load_pem_x509_certificate((plan.state / "bmc/x1000c0s0b0/tls.crt").read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == [
        "10.77.0.160",
        "127.0.0.1",
    ]
    assert names.get_values_for_type(x509.DNSName) == ["x1000c0s0b0"]
    authority = x509.load_pem_x509_certificate(Path(plan.site.bmc.ca_file).read_bytes())
    found.verify_directly_issued_by(authority)


def test_an_address_that_changed_makes_a_new_certificate_and_only_that(plan, tmp_path):
    authority = credentials.Authority(tmp_path / "pki")
    authority.issue("one", credentials.SERVER, "one", ["10.0.0.1"])
    authority.issue("two", credentials.SERVER, "two", ["10.0.0.2"])
    before = contents(tmp_path / "pki")
    again = credentials.Authority(tmp_path / "pki")
    again.issue("one", credentials.SERVER, "one", ["10.0.0.9"])
    again.issue("two", credentials.SERVER, "two", ["10.0.0.2"])
    after = contents(tmp_path / "pki")
    changed = {Path(name).name for name in after if after[name] != before[name]}
    assert changed == {"one.crt", "one.key"}


def test_certificates_of_another_authority_are_replaced(tmp_path):
    authority = credentials.Authority(tmp_path / "pki")
    authority.issue("one", credentials.SERVER, "one", ["10.0.0.1"])
    before = (tmp_path / "pki/one.crt").read_bytes()
    (tmp_path / "pki/ca.key").unlink()
    credentials.Authority(tmp_path / "pki").issue("one", credentials.SERVER, "one", ["10.0.0.1"])
    assert (tmp_path / "pki/one.crt").read_bytes() != before


def test_certificate_and_key_belong_together(plan):
    credentials.create(plan)
    for certificate in plan.state.rglob("*.crt"):
        key = certificate.with_suffix(".key")
        if key.exists():
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)


def test_the_operators_kubeconfig_goes_through_the_published_port(plan):
    credentials.create(plan)
    outside = json.loads(Path(plan.site.hypervisor.kubeconfig).read_text())
    inside = json.loads((plan.state / "pki/hypervisor-inside.kubeconfig").read_text())
    assert outside["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:17443"
    assert inside["clusters"][0]["cluster"]["server"] == "https://10.77.0.1:7443"
    assert "client-key-data" in outside["users"][0]["user"]
    assert "client-key-data" not in inside["users"][0]["user"], "a second copy of the key"


def test_the_ssh_key_is_in_openssh_format(plan):
    credentials.create(plan)
    load_ssh_private_key(Path(plan.site.ssh.private_key).read_bytes(), None)
    public = Path(f"{plan.site.ssh.private_key}.pub").read_text()
    assert public.startswith("ssh-ed25519 ") and public.endswith("\n")


def test_a_password_that_others_may_read_is_refused(plan):
    credentials.create(plan)
    Path(plan.site.bmc.password_file).chmod(0o644)
    with pytest.raises(SitewrightError, match=r"bmc\.password: others than its owner may read this password"):
        credentials.create(plan)
