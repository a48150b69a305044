"""The sites that the tests run the program with: copies, and beside them the files that they name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stacks.engine import Run, run

REPOSITORY = Path(__file__).parents[2]
LAB_STATE = "/var/lib/sitewright/lab"
SHA512 = "ab" * 64


@pytest.fixture(scope="session")
def site_file(tmp_path_factory) -> Callable[..., Path]:
    """A site file of the repository, or a variant of it: `site_file("lab", ("old text", "new text"))`."""

    def copy(name: str, *changes: tuple[str, str]) -> Path:
        root = tmp_path_factory.mktemp(name)
        file = root / "environments" / f"{name}.yaml"
        text = (REPOSITORY / "environments" / file.name).read_text()
        for old, new in ((LAB_STATE, str(root)), *changes):
            assert old in text or old == LAB_STATE, old
            text = text.replace(old, new)
        secrets = root / ".secrets" / name
        for directory in (file.parent, secrets, root / "ssh", root / "www/vm"):
            directory.mkdir(parents=True)
        file.write_text(text)
        for kubeconfig in (secrets / "harvester.kubeconfig", root / "hypervisor.kubeconfig"):
            kubeconfig.write_text("kubeconfig of the hypervisor")
        for key in (secrets / "id_ed25519.pub", root / "ssh/id_ed25519.pub"):
            key.write_text("ssh-ed25519 AAAAC3Nza operator\n")
        (secrets / "openchami.jwt").write_text("a token for the provisioner\n")
        (root / "database.password").write_text("password of the database\n")
        (root / "database-ca.crt").write_text("CA of the database")
        (root / "www/vm/SHA512SUMS").write_text(f"{SHA512}  debian-12.squashfs\n")
        return file

    return copy


@pytest.fixture(scope="session")
def program() -> Callable[..., Run]:
    return run


@pytest.fixture(scope="session")
def lab(site_file) -> Run:
    """The lab after `pulumi up`."""
    return run(site_file("lab"))


@pytest.fixture(scope="session")
def alps(site_file) -> Run:
    """The example at the scale of Alps after `pulumi up`."""
    return run(site_file("example-alps"))


@pytest.fixture(params=["lab", "alps"])
def site_run(request) -> Run:
    """Both, one after the other."""
    return request.getfixturevalue(request.param)
