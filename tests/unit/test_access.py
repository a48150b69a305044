"""How a layer gets at the files and addresses of a site."""

import pytest

from sitewright.errors import SitewrightError
from sitewright.site import load
from sitewright.site.files import REPOSITORY
from sitewright.site.sections import HypervisorImage
from stacks.access import (
    environment,
    hypervisor_kubeconfig,
    image_checksum,
    redfish_url,
    site_named,
    ssh_public_key,
)
from tests.unit.lab_site import plan_below

SHA512 = "ab" * 64
LAB = REPOSITORY / "environments/lab.yaml"


@pytest.fixture
def site(tmp_path):
    """The lab's, its state directory an empty one of the test."""
    return plan_below(tmp_path).site


def image(tmp_path, checksums: str) -> HypervisorImage:
    (tmp_path / "SHA512SUMS").write_text(checksums)
    return HypervisorImage.model_validate(
        {"name": "debian-12", "url": "http://i/vm/d.raw", "checksum_file": str(tmp_path / "SHA512SUMS")},
        context={"directory": tmp_path},
    )


def test_a_site_of_the_repository_goes_by_its_name():
    assert environment(load(LAB)) == environment(load("lab")) == "lab"


def test_a_site_file_elsewhere_goes_by_its_path(site, tmp_path):
    assert environment(site) == str(tmp_path / "lab.yaml")
    assert load(environment(site)).ssh == site.ssh


@pytest.mark.parametrize("directory", ["stacks", "environments", "/"])
def test_a_relative_path_starts_where_the_configuration_lies(monkeypatch, directory):
    """Pulumi runs the program in stacks/, whatever directory the operator typed the path in."""
    monkeypatch.chdir(REPOSITORY / directory)
    assert site_named("environments/lab.yaml").file == LAB
    assert site_named("tests/data/site/base.yaml").name == "base"
    assert site_named(str(LAB)).file == LAB


def test_a_name_of_the_configuration_is_a_name(monkeypatch):
    monkeypatch.chdir(REPOSITORY / "stacks")
    assert site_named("lab").file == LAB


def test_a_relative_path_to_nothing_is_named_from_the_project(monkeypatch):
    monkeypatch.chdir(REPOSITORY / "stacks")
    with pytest.raises(
        SitewrightError, match=r"there is no file environments/lap\.yaml \(did you mean 'lab'"
    ):
        site_named("environments/lap.yaml")


def test_the_public_key_lies_beside_the_private_one(site, tmp_path):
    (tmp_path / "state/ssh").mkdir(parents=True)
    (tmp_path / "state/ssh/id_ed25519.pub").write_text("ssh-ed25519 AAAA operator\n")
    assert ssh_public_key(site) == "ssh-ed25519 AAAA operator"


def test_a_missing_public_key_says_which_and_how_to_make_one(site):
    with pytest.raises(
        SitewrightError, match=r"state/ssh/id_ed25519\.pub: No such file .*\n.*ssh-keygen, or start the lab"
    ):
        ssh_public_key(site)


def test_a_missing_kubeconfig_of_the_hypervisor_says_which_and_what_to_do(site):
    with pytest.raises(SitewrightError, match=r"state/hypervisor\.kubeconfig: No such file .*\n.*lab up"):
        hypervisor_kubeconfig(site)


def test_a_bmc_of_a_lab_is_reached_at_its_published_port(site):
    assert redfish_url(site, "10.77.0.160") == "https://127.0.0.1:18443"


def test_a_bmc_of_a_real_site_is_reached_at_its_own_address():
    assert redfish_url(load("example-alps"), "10.102.1.0") == "https://10.102.1.0:443"


def test_a_checksum_of_the_site_file_wins_without_any_file():
    given = HypervisorImage.model_validate({"name": "d", "url": "http://i/d.raw", "checksum": SHA512})
    assert image_checksum(given) == SHA512


@pytest.mark.parametrize("line", [f"{SHA512}  d.raw\n", f"{SHA512} *d.raw\n", f"{SHA512}  d.raw"])
def test_a_checksum_is_found_by_the_name_of_the_file(tmp_path, line):
    assert image_checksum(image(tmp_path, f"{'cd' * 64}  other.raw\n{line}")) == SHA512


@pytest.mark.parametrize("text", ["", f"{SHA512}  d.raw.old\n", f"{SHA512}  old-d.raw\n"])
def test_a_file_of_checksums_that_does_not_name_the_image_is_refused(tmp_path, text):
    with pytest.raises(
        SitewrightError, match=r"SHA512SUMS: no line names d\.raw, the file of VM image debian-12"
    ):
        image_checksum(image(tmp_path, text))


def test_a_checksum_in_capitals_is_the_same(tmp_path):
    assert image_checksum(image(tmp_path, f"{SHA512.upper()}  d.raw\n")) == SHA512


def test_a_file_of_other_checksums_is_refused_by_name(tmp_path):
    with pytest.raises(
        SitewrightError, match=r"SHA512SUMS: the checksum of d\.raw is not a sha512: .*a sha256"
    ):
        image_checksum(image(tmp_path, f"{'ab' * 32}  d.raw\n"))


def test_a_missing_file_of_checksums_says_what_it_is_for(tmp_path):
    given = image(tmp_path, "")
    (tmp_path / "SHA512SUMS").unlink()
    with pytest.raises(
        SitewrightError, match=r"No such file .*; it holds the checksum of VM image debian-12"
    ):
        image_checksum(given)
